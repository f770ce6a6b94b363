"""What PyBullet's software renderer needs: cheap robot meshes to be fast, and cylinders that are not capsules."""

from __future__ import annotations

import copy
import tempfile
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

SIDES = 20
# For frames without a body; PyBullet would give each of them 1 kg.
LIGHT_INERTIAL = '<inertial><mass value="0.01"/>' \
                 '<inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>'


@cache
def prepared_urdf(path: Path, visuals: str) -> str:
    """The description for PyBullet. 'fast' visuals are its collision shapes: drawing them takes a tenth of the time."""
    root = ET.parse(path).getroot()
    for link in root.findall("link"):
        if link.find("inertial") is None:
            link.append(ET.fromstring(LIGHT_INERTIAL))
        if visuals == "fast":
            draw_collision_shapes(link)
    for mesh in root.iter("mesh"):
        mesh.set("filename", str(path.parent / mesh.get("filename", "").removeprefix("package://")))
    return ET.tostring(root, encoding="unicode")


def draw_collision_shapes(link: ET.Element) -> None:
    for visual in link.findall("visual"):
        link.remove(visual)
    for collision in link.findall("collision"):
        visual = copy.deepcopy(collision)
        visual.tag = "visual"
        link.append(visual)


@contextmanager
def urdf_file(path: Path, visuals: str):
    """The name of a short-lived file for loadURDF; meshes are named by absolute paths in it."""
    with tempfile.NamedTemporaryFile("w", suffix=".urdf") as file:
        file.write(prepared_urdf(path, visuals))
        file.flush()
        yield file.name


class Mesh:
    """Collects convex faces; every face has vertices of its own, so that each is lit by its own normals."""

    def __init__(self):
        self.vertices: list[list[float]] = []
        self.normals: list[list[float]] = []
        self.indices: list[int] = []

    def face(self, points, normals) -> None:
        """A convex polygon of points (P, 3), counter-clockwise from outside, with a normal each."""
        first = len(self.vertices)
        self.vertices += np.asarray(points, float).tolist()
        self.normals += np.asarray(normals, float).tolist()
        for k in range(1, len(points) - 1):
            self.indices += [first, first + k, first + k + 1]

    def arguments(self) -> dict:
        """Of createVisualShape."""
        return {"vertices": self.vertices, "normals": self.normals, "indices": self.indices,
                "uvs": [[0.0, 0.0]] * len(self.vertices)}


def rims(top: float, sides: int = SIDES) -> tuple[np.ndarray, np.ndarray]:
    """(sides, 3) each: the lower rim, of unit diameter, and the upper one, `top` times as wide, unit height apart."""
    angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1) / 2
    return circle - [0, 0, 0.5], circle * top + [0, 0, 0.5]


@cache
def frustum_mesh(top: float = 1.0, sides: int = SIDES) -> dict:
    """A closed truncated cone between rims(top), as arguments of createVisualShape; top 1: a cylinder.

    Few sides are flat, those of a pyramid or a prism.
    """
    low, high = rims(top, sides)
    outward = low * [2, 2, 0] + [0, 0, (1 - top) / 2]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    mesh = Mesh()
    for k in range(sides):
        n = (k + 1) % sides
        normals = outward[[k, n, n, k]] if sides == SIDES else [outward[[k, n]].mean(0)] * 4
        mesh.face([low[k], low[n], high[n], high[k]], normals)
    mesh.face(high, [(0, 0, 1)] * sides)
    mesh.face(low[::-1], [(0, 0, -1)] * sides)
    return mesh.arguments()


def boxes_mesh(boxes: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Boxes given by centre (3,) and half extents (3,), as arguments of createVisualShape."""
    mesh = Mesh()
    for centre, half in boxes:
        for axis in range(3):
            for sign in (-1, 1):
                corners = np.zeros((4, 3))
                corners[:, axis] = sign
                corners[:, [(axis + 1) % 3, (axis + 2) % 3]] = [(-1, -1), (1, -1), (1, 1), (-1, 1)][::sign]
                mesh.face(centre + corners * half, [np.eye(3)[axis] * sign] * 4)
    return mesh.arguments()
