"""A robot profile beside its URDF: joints, limits, home, workspace, frames."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla_ros.doctor.finding import Finding, error, ok, or_ok, warning
from vla_ros.errors import ConfigError, VlaError
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile

WITHOUT_RANGE = ("continuous",)  # kinds of joints that turn for ever


@dataclass(frozen=True)
class Joint:
    """kind: as in the URDF; lower, upper [rad or m], velocity [/s]: not a number where the URDF has none."""

    kind: str
    lower: float
    upper: float
    velocity: float


def named_joints(profile: RobotProfile) -> tuple[str, ...]:
    """The profile's, with the gripper's."""
    return profile.joints + (profile.gripper.joints if profile.gripper else ())


@dataclass(frozen=True)
class Robot:
    """A profile and what its URDF says."""

    profile: RobotProfile

    @cached_property
    def tree(self) -> ElementTree.Element:
        """Raises ConfigError for a file that is missing or no XML."""
        path = self.profile.urdf_path()
        try:
            return ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, ValueError) as reason:
            raise ConfigError(f"{path} is not a URDF: {reason}") from reason

    @cached_property
    def urdf_joints(self) -> dict[str, Joint]:
        return {joint.get("name", ""): read_joint(joint) for joint in self.tree.findall("joint")}

    @cached_property
    def links(self) -> set[str]:
        return {link.get("name", "") for link in self.tree.findall("link")}

    @property
    def roots(self) -> set[str]:
        """Links that are no joint's child: one, in a whole URDF."""
        return self.links - {child.get("link", "") for child in self.tree.findall("joint/child")}

    @cached_property
    def kinematics(self) -> ArmKinematics:
        """Raises ConfigError."""
        return ArmKinematics(self.profile)

    @property
    def joints(self) -> tuple[str, ...]:
        return named_joints(self.profile)

    @property
    def moving(self) -> dict[str, Joint]:
        """Those of the profile's joints that the URDF has."""
        return {name: self.urdf_joints[name] for name in self.joints if name in self.urdf_joints}


def read_joint(joint: ElementTree.Element) -> Joint:
    """URDF's own defaults: a range that is not written is 0 to 0."""
    limit = joint.find("limit")

    def value(name: str, default: str) -> float:
        try:
            return float(limit.get(name, default)) if limit is not None else math.nan
        except ValueError:
            return math.nan
    return Joint(joint.get("type", ""), value("lower", "0"), value("upper", "0"), value("velocity", "nan"))


def joints(r: Robot) -> list[Finding]:
    def problems() -> Iterator[Finding]:
        missing = [name for name in r.joints if name not in r.urdf_joints]
        movable = [name for name, joint in r.urdf_joints.items() if joint.kind != "fixed"]
        if missing:
            yield error("joints", f"{', '.join(missing)} not in {r.profile.urdf}; it has "
                        f"{', '.join(movable) or 'none'}", "the nodes cannot compute where the robot is, and end",
                        "name the joints as the URDF does")
        fixed = [name for name, joint in r.moving.items() if joint.kind == "fixed"]
        if fixed:
            yield error("joints", f"{', '.join(fixed)} cannot move: fixed in {r.profile.urdf}", "what is commanded to "
                        "them is never reached", f"name joints that move: {', '.join(movable) or 'there are none'}")
    return or_ok(problems(), "joints", f"{len(r.joints)} of the profile are in the URDF")


def limits(r: Robot) -> list[Finding]:
    """An arm's and a gripper's: wheels are limited by the profile."""
    def problems() -> Iterator[Finding]:
        for name, joint in bounded.items():
            if joint.kind not in WITHOUT_RANGE and not -math.inf < joint.lower < joint.upper < math.inf:
                yield error("limits", f"{name} runs from {joint.lower:g} to {joint.upper:g} in {r.profile.urdf}",
                            "the guard would refuse or allow every position", "lower and upper of its <limit>, finite "
                            "and in order [rad or m]")
            if not 0 < joint.velocity < math.inf:
                yield error("limits", f"{name} has velocity {joint.velocity:g} in {r.profile.urdf}",
                            "the guard would stop, or allow any speed", "velocity of its <limit>, finite and positive "
                            "[/s]")
    wheels = r.profile.joints if r.profile.kind == "base" else ()
    bounded = {name: joint for name, joint in r.moving.items() if name not in wheels and joint.kind != "fixed"}
    return or_ok(problems(), "limits", f"of {len(bounded)} joints, position and velocity, finite and in order"
                 if bounded else "not applicable: wheels are limited by the profile")


def home(r: Robot) -> list[Finding]:
    """An arm's home and both ends of its gripper."""
    fingers = r.profile.gripper.joints if r.profile.gripper else ()
    places = list(zip(r.profile.joints, r.profile.home, strict=False))
    if fingers:
        places += [(name, gap / 2) for name in fingers for gap in (r.profile.gripper.closed, r.profile.gripper.open)]

    def problems() -> Iterator[Finding]:
        for name, place in places:
            joint = r.moving.get(name)
            if joint and joint.kind not in WITHOUT_RANGE and not joint.lower <= place <= joint.upper:
                key = "gripper" if name in fingers else "home"
                yield error("home", f"{key} puts {name} at {place:g}, its limits are {joint.lower:g} to "
                            f"{joint.upper:g}", "the nodes refuse the profile, or the fingers never get there",
                            f"a {key} within the limits of {r.profile.urdf}")
    return or_ok(problems(), "home", "within the limits" if places else "not applicable: a base has none")


def kinematics(r: Robot) -> Iterator[Finding]:
    """What the control node builds first; it knows more rules, such as the order of the joints."""
    if r.profile.kind != "arm":
        yield ok("kinematics", "not applicable: a base needs its wheels alone")
    elif len(r.moving) == len(r.joints):  # otherwise it is said already
        r.kinematics.forward(np.array(r.profile.home))
        yield ok("kinematics", f"of {len(r.profile.joints)} joints to {r.profile.ee_frame}")


def workspace(r: Robot) -> list[Finding]:
    """An arm's box, which must be above what it stands on, and hold the hand at home."""
    box = r.profile.workspace
    if box is None:
        return [ok("workspace", "not applicable: a base has none")]
    def problems() -> Iterator[Finding]:
        if box.min[2] < 0:
            yield warning("workspace", f"it begins {-box.min[2]:g} m below {r.profile.base_frame}", "on a table that "
                          "the arm stands on, the hand may be driven into it", "workspace.min[2] above the table, or "
                          "leave it if the table is that much lower")
        try:
            hand = r.kinematics.forward(np.array(r.profile.home)).position
        except VlaError:
            return  # the check of the kinematics says why
        if not all(a <= p <= b for a, p, b in zip(box.min, hand, box.max, strict=True)):
            place = ", ".join(f"{p:.3f}" for p in hand)
            yield warning("workspace", f"at home the end effector is at ({place}) m, outside", "the first motion goes "
                          "into the box, wherever the policy wants to go", "a home whose end effector is inside, or a "
                          "larger box")
    return or_ok(problems(), "workspace", "above the base's plane, with the end effector at home inside")


def frames(r: Robot) -> list[Finding]:
    def problems() -> Iterator[Finding]:
        needed = {"base_frame": r.profile.base_frame, "ee_frame": r.profile.ee_frame}
        for key, frame in needed.items():
            if frame and frame not in r.links:
                yield error("frames", f"{key} {frame} is no link of {r.profile.urdf}", "motions would be in a frame "
                            "that nobody knows", f"one of {', '.join(sorted(r.links))}")
        if r.profile.kind == "arm" and r.profile.base_frame in r.links - r.roots:
            yield error("frames", f"base_frame {r.profile.base_frame} is not the URDF's first link "
                        f"({', '.join(sorted(r.roots))})", "the end effector's pose is computed from the first link: "
                        "steps and workspace would be displaced", "name the first link, or use a URDF that begins with "
                        f"{r.profile.base_frame}")
        for name, camera in r.profile.cameras.items():
            if camera.parent not in r.links:
                yield warning("frames", f"camera '{name}' is mounted on {camera.parent}, no link of {r.profile.urdf}",
                              "it cannot be simulated, nor its picture be related to the robot", "name the link that "
                              "it is mounted on")
    return or_ok(problems(), "frames", "of the base, the end effector and the cameras are in the URDF")


CHECKS = (joints, limits, home, frames, kinematics, workspace)
