"""An OpenVLA checkpoint beside a robot. Its weights are opened last, and only there is torch needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vla_ros.doctor.finding import Finding, error, ok, warning
from vla_ros.errors import VlaError
from vla_ros.openvla.fitting import Plan, plan
from vla_ros.openvla.options import read_options
from vla_ros.openvla.statistics import Statistics
from vla_ros.policies import open_policy, with_options
from vla_ros.profile import RobotProfile
from vla_ros.transforms import SMALLEST_SPAN

NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
MEND = "give the folder as it was published, whole; behind it, as in FOLDER?unnorm_key=NAME, what it asks for"


def planned(folder: Path, policy: str, profile: RobotProfile) -> Plan:
    """policy: as open_policy takes it, with options. Raises VlaError."""
    return plan(folder, read_options(with_options(policy)[1]), profile)


def of_plan(made: Plan, profile: RobotProfile) -> Iterator[Finding]:
    quantiles = zip(("dx", "dy", "dz"), made.statistics.low.tolist(), made.statistics.high.tolist(), strict=False)
    spans = ", ".join(f"{name} {low:g} to {high:g}" for name, low, high in quantiles)
    yield ok("statistics", f"those of '{made.statistics.key}': {spans} m a step")
    yield from degenerate(made.statistics)
    unread = [name for name in profile.cameras if name != made.camera]
    yield ok("cameras", f"'{made.camera}' is read{', not ' + ', '.join(unread) if unread else ''}")
    yield warning("trained on", f"'{made.statistics.key}': of which robot and camera, the checkpoint does not say",
                  "another body, or a camera elsewhere, is nothing that the model has seen",
                  "compare the data set's robot with this one; fine-tune where they differ")


def degenerate(statistics: Statistics) -> Iterator[Finding]:
    """Dimensions that the data set hardly changes."""
    low, high = statistics.keys
    still = [name for name, a, b, scaled in zip(NAMES, statistics.low.tolist(), statistics.high.tolist(),
                                                statistics.scaled.tolist(), strict=False)
             if scaled and b - a < SMALLEST_SPAN]
    if not still:
        return
    what = f"'{statistics.key}': {low} all but reaches {high} of {', '.join(still)}"
    if {"dx", "dy", "dz"} <= set(still):
        yield error("statistics", what, "whatever the model says, the hand is not moved", MEND)
    else:
        yield warning("statistics", what, "whatever the model says, they do not move: their data set never did",
                      "see whether these are the data set's that was meant (unnorm_key)")


def weights(policy: str, profile: RobotProfile) -> Iterator[Finding]:
    """Opens the policy as the policy node does."""
    try:
        open_policy(policy, profile)
    except VlaError as reason:
        yield error("weights", str(reason), "the policy node ends with this very error", MEND)
    else:
        yield ok("weights", "they open, and fit config.json")
