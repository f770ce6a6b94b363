"""The tree of links in a URDF, as transforms between parents and children. No ROS, no kinematics library."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Joint:
    """parent_from_child at zero (4, 4); axis (3,) in the child's frame; mimic: joint that it follows, or ''."""

    name: str
    kind: str
    parent: str
    child: str
    origin: np.ndarray
    axis: np.ndarray
    mimic: str

    def transform(self, position: float) -> np.ndarray:
        """parent_from_child (4, 4) at a position [rad or m]."""
        motion = np.eye(4)
        if self.kind in ("revolute", "continuous"):
            motion[:3, :3] = rotation_about(self.axis, position)
        elif self.kind == "prismatic":
            motion[:3, 3] = self.axis * position
        return self.origin @ motion


class LinkTree:
    """The joints of a URDF: those that move and those that do not."""

    def __init__(self, urdf: str):
        elements = ElementTree.fromstring(urdf).iter("joint")
        joints = [joint_of(element) for element in elements if element.find("parent") is not None]
        self.fixed = [j for j in joints if j.kind == "fixed"]
        self.moving = [j for j in joints if j.kind in ("revolute", "continuous", "prismatic")]
        children = {j.child for j in joints}
        self.root = next(j.parent for j in joints if j.parent not in children)  # the link that nothing carries

    def fixed_transforms(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """parent, child, parent_from_child (4, 4)"""
        return ((j.parent, j.child, j.transform(0.0)) for j in self.fixed)

    def transforms(self, positions: Mapping[str, float]) -> Iterator[tuple[str, str, np.ndarray]]:
        """As above, for the joints whose positions [rad or m] are known."""
        for joint in self.moving:
            position = positions.get(joint.name, positions.get(joint.mimic))
            if position is not None:
                yield joint.parent, joint.child, joint.transform(position)


def joint_of(element: ElementTree.Element) -> Joint:
    origin, axis, mimic = element.find("origin"), element.find("axis"), element.find("mimic")
    place = np.eye(4)
    if origin is not None:
        place[:3, 3] = numbers(origin.get("xyz", "0 0 0"))
        place[:3, :3] = rotation_rpy(*numbers(origin.get("rpy", "0 0 0")))
    direction = numbers(axis.get("xyz", "1 0 0")) if axis is not None else np.array([1.0, 0.0, 0.0])
    length = np.linalg.norm(direction)
    return Joint(element.get("name"), element.get("type"), element.find("parent").get("link"),
                 element.find("child").get("link"), place, direction / length if length else direction,
                 mimic.get("joint") if mimic is not None else "")


def numbers(text: str) -> np.ndarray:
    return np.array([float(v) for v in text.split()])


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """(3, 3), Rodrigues' formula; axis: unit vector."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def rotation_rpy(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """(3, 3) of a URDF's fixed-axis roll, pitch, yaw [rad]."""
    x, y, z = np.eye(3)
    return rotation_about(z, yaw) @ rotation_about(y, pitch) @ rotation_about(x, roll)


def planar(x: float, y: float, yaw: float) -> np.ndarray:
    """(4, 4) of a pose in the plane [m, rad]."""
    out = np.eye(4)
    out[:3, :3], out[:2, 3] = rotation_about(np.array([0.0, 0.0, 1.0]), yaw), (x, y)
    return out
