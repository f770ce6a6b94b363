"""What an action means: of a policy beside that of a robot. The costliest mistakes are made here, and none is seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from vla_ros.doctor.checkpoint import Checkpoint
from vla_ros.doctor.finding import Finding, error, ok, or_ok, warning
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec

CONVENTIONS = {  # field of an ActionSpec: why a difference matters
    "names": "each number would move another axis",
    "units": "a motion would be larger or smaller by orders of magnitude",
    "frame": "a motion would go in another direction",
    "mode": "a velocity would be added to a pose, or a step be taken for a velocity",
    "gripper": "the gripper would open where it should close",
    "period": "the motion would be faster or slower than what was learnt",
}
FASTEST = {"m": 3.0, "rad": 12.0}  # [/s] that no arm's hand moves or turns at: the unit must be another
AT_REST = 0.05  # share of its span by which a dimension may miss zero
ENDS = 0.05  # of 0 and of 1, between which a gripper's statistics must run


@dataclass(frozen=True)
class Acting:
    """What a policy of `spec` is to do on a robot. execute_steps: of a chunk, before a newer one takes over."""

    spec: ActionSpec
    profile: RobotProfile
    execute_steps: int


def conventions(a: Acting) -> list[Finding]:
    """Names, units, frame, delta or velocity, gripper sign and period, one by one."""
    def differing() -> Iterator[Finding]:
        for field, why in CONVENTIONS.items():
            policy, robot = getattr(a.spec, field), getattr(a.profile.action, field)
            if policy != robot:
                yield error("conventions", f"{field}: the policy's is {shown(policy)}, the robot's {shown(robot)}", why,
                            f"a policy that was trained with {field} {shown(robot)}; change action.{field} of the "
                            f"profile only where the robot's driver means {shown(policy)} too")
    spec = a.spec
    return or_ok(differing(), "conventions", f"{', '.join(spec.names)} as {spec.mode} in {spec.frame}, every "
                 f"{spec.period:g} s{', gripper ' + spec.gripper if spec.gripper else ''}: policy and robot agree")


def shown(value) -> str:
    return ", ".join(value) if isinstance(value, tuple) else f"{value!r}"


def base_frame(a: Acting) -> Iterator[Finding]:
    """The decoder adds steps in the base frame, whatever the spec says."""
    if a.spec.frame == a.profile.base_frame:
        yield ok("action frame", f"{a.spec.frame} is the robot's base frame")
    else:
        yield error("action frame", f"actions are in {a.spec.frame}, the robot's base_frame is {a.profile.base_frame}",
                    "steps are added in the base frame: every motion would go in another direction",
                    f"train with actions in {a.profile.base_frame}")


def horizon(a: Acting) -> Iterator[Finding]:
    """Whether a chunk lasts until the next one takes over, when that is as late as the profile allows."""
    period, reach = a.spec.period, a.spec.horizon * a.spec.period
    latency, running = a.profile.max_observation_age, a.execute_steps * a.spec.period
    what = (f"a chunk of {a.spec.horizon} steps lasts {reach:g} s; {a.execute_steps} steps are executed "
            f"({running:g} s), and the next may be {latency:g} s late")
    most = math.floor((reach - latency) / period + 1e-9)
    fewer = f"execute_steps:={most}, or " if most >= 1 else ""
    if a.spec.horizon <= a.execute_steps:
        yield warning("horizon", what, "every chunk is over before the next takes over: the robot stops and waits "
                      "between them, as with any policy that answers one step at a time",
                      f"{fewer}a policy with a longer horizon")
    elif reach < running + latency - 1e-9:
        yield warning("horizon", what, "with late images the robot stops and waits at the end of a chunk",
                      f"{fewer}a policy with a longer horizon, or a smaller max_observation_age")
    else:
        yield ok("horizon", what)


def gripper(c: Checkpoint) -> Iterator[Finding]:
    """Sign and range: a gripper's action is a fraction, 0 closed, 1 open."""
    has, convention, body = "gripper" in c.spec.names, c.spec.gripper, c.profile.gripper
    if has != bool(convention):
        yield error("gripper", f"the action {'has' if has else 'has no'} gripper, its convention is '{convention}'",
                    "nothing says whether 1 opens or closes", "gripper: open_is_one in the action spec, with a "
                    "dimension of that name; or neither")
    elif has and body is None:
        yield error("gripper", f"the policy moves a gripper, robot '{c.profile.name}' has none", "nothing would grasp",
                    "name the gripper's joints in the profile")
    elif not has:
        yield ok("gripper", "the action has none")
    elif "gripper" in c.span("action"):
        yield gripper_range(*c.span("action")["gripper"])


def gripper_range(low: float, high: float) -> Finding:
    if abs(low) <= ENDS and abs(high - 1) <= ENDS:
        return ok("gripper", f"1 is open, 0 closed; normalised from {low:g} to {high:g}")
    if low < -0.5:
        guess = "it looks like -1 for one end and 1 for the other"
    elif 0 <= low and high < 0.5:
        guess = "it looks like metres, or like a gripper that never opened"
    else:
        guess = "it looks like one that never went all the way"
    return error("gripper", f"the gripper's statistics run from {low:g} to {high:g}, not from 0 to 1: {guess}",
                 "a fraction beyond 0 and 1 is cut off, and one within never opens or never closes",
                 "write the gripper as a fraction, 0 closed and 1 open, into the demonstrations, and train on them")


def motion(c: Checkpoint) -> list[Finding]:
    """Whether the statistics are those of steps or velocities in SI units: their range tells."""
    speed = 1.0 if c.spec.mode == "velocity" else c.spec.period
    moving = {name: span for name, span in c.span("action").items() if name != "gripper"}
    units = dict(zip(c.spec.names, c.spec.units, strict=True))

    def problems() -> Iterator[Finding]:
        for name, (low, high) in moving.items():
            margin, most = AT_REST * (high - low), max(abs(low), abs(high)) / speed
            unit = units[name].removesuffix("/s")
            if not low - margin <= 0 <= high + margin:
                yield error("motion", f"{name} runs from {low:g} to {high:g} {units[name]}: never zero",
                            "what is learnt so never stands still; absolute positions taken for steps look like this",
                            f"train on {c.spec.mode} actions, in which a robot at rest is zero")
            elif most > FASTEST[unit]:
                yield error("motion", f"{name} reaches {most:g} {unit}/s", "no robot moves so fast: the unit is "
                            "another one, millimetres or degrees", "metres, radians and seconds in the demonstrations")
            elif (limit := getattr(c.profile.limits, name, None)) is not None and most > 1.05 * limit:
                yield warning("motion", f"{name} reaches {most:g} {unit}/s, the profile allows {limit:g} {unit}/s",
                              "the guard cuts it off: the robot follows another way than what was learnt",
                              f"train within the limits, or raise limits.{name} if the robot is made for it")
    return or_ok(problems(), "motion", f"{', '.join(moving)} include rest, at speeds that a robot can have")
