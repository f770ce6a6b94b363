"""A hostile policy, straight into the controller: `python test/faults/adversary.py --n 1000000`.

Chunks of NaN, of 1e9, of a wrong shape or none, with the sign flipped at each step, too late, too early, refusals,
exceptions; stops and resets at any tick; joints that lie or are missing; commands past the decoder. What goes out is
held against the limits of the robot, as differences over the control period. One line a robot, with the largest share
of each limit that was used, and one line of JSON at the end; exit code 1 when a limit was broken or anything but a
refusal was raised.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.control import Controller
from vla_ros.errors import ActionError
from vla_ros.guard import CLEARANCE, SLACK
from vla_ros.profile import RobotProfile, load_profile
from vla_ros.types import ActionChunk, Command, JointCommand, JointState, TwistCommand

ROUNDING = 1e-6  # share of a limit
ABSURD = (np.nan, np.inf, -np.inf, 1e9, -1e9, 1e308, 5e-324)


class PolicyError(Exception):
    """What a policy may raise."""


class Hostile:
    """Random chunks, joints and commands for one robot. now: [ns]."""

    def __init__(self, profile: RobotProfile, rng: np.random.Generator):
        self.profile, self.rng = profile, rng
        self.size = 0.05 if profile.kind == "arm" else 1.5  # [m] a step, or [m/s, rad/s]

    def chunk(self, now: int) -> ActionChunk:
        """Raises PolicyError at times."""
        spec, rng = self.profile.action, self.rng
        kind = rng.choice(["sane", "flip", "absurd", "shape", "refusal", "spec", "raise"],
                          p=[0.3, 0.35, 0.15, 0.05, 0.05, 0.05, 0.05])
        if kind == "raise":
            raise PolicyError("out of memory")
        values = rng.normal(0, self.size, (spec.horizon, spec.dim))
        if kind == "flip":
            values = self.size * np.outer((-1.0) ** np.arange(spec.horizon), rng.choice([-1, 1], spec.dim))
        if kind == "absurd":
            values[rng.integers(spec.horizon), rng.integers(spec.dim)] = rng.choice(ABSURD)
        if kind == "shape":
            values = values[:, :-1] if rng.random() < 0.5 else values[:0]
        if kind == "spec":
            spec = replace(spec, period=spec.period / 2)
        moment = now + round(rng.choice([0, -0.05, -0.3, -2.0, 0.3]) * 1e9)
        return ActionChunk(values, spec, moment, refusal="no" if kind == "refusal" else "")

    def joints(self, now: int, places: dict[str, float]) -> JointState:
        """At `places`, or what a broken driver says of them."""
        kind, names = self.rng.random(), list(places)
        if kind < 0.02:
            places = places | {self.rng.choice(names): float(self.rng.choice(ABSURD))}
        elif kind < 0.03:
            places = {name: places[name] for name in names[1:]}
        elif kind < 0.05:
            places = {name: value + self.rng.normal(0, 0.3) for name, value in places.items()}
        return JointState(places, dict.fromkeys(places, 0.0), now)

    def command(self, controller: Controller) -> Command:
        """Past the decoder, as if that were broken."""
        rng = self.rng
        if self.profile.kind == "base":
            return TwistCommand(*(float(v) for v in rng.choice([*ABSURD, 0.5, -0.5], 2)))
        guard = controller.guard
        places = {name: rng.uniform(2 * guard.low[name], 2 * guard.high[name]) for name in guard.low}
        if rng.random() < 0.3:
            places[rng.choice(list(places))] = float(rng.choice(ABSURD))
        if rng.random() < 0.05:
            places.pop(self.profile.joints[0])
        return JointCommand(places)


class Limits:
    """Holds what goes out against the limits of the robot. most: the largest share of each that was used."""

    def __init__(self, controller: Controller, broken: Callable[[str], None]):
        self.controller, self.broken, self.most = controller, broken, Counter()
        self.way: list[np.ndarray] = []  # the last four: positions of the arm, or (v, w) of the base
        self.fingers = np.array([])  # [m] where they were commanded last
        begin, forget = controller.guard.begin, controller.guard.forget

        def begun(*measured):
            begin(*measured)
            if self.way and not np.allclose(self.way[-1], self.way[-2] if measured else 0.0, atol=1e-8):
                self.broken("begun anew in motion")
            self.way = [np.array(measured[0]) if measured else np.zeros(2)] * 4
            steps = getattr(controller.guard, "finger_step", ())
            self.fingers = np.array([controller.guard.before.get(name, np.nan) for name in steps])

        def forgotten():
            forget()
            self.way = []
        controller.guard.begin, controller.guard.forget = begun, forgotten

    def hold(self, name: str, made: np.ndarray, limit: np.ndarray) -> None:
        share = float(np.max(np.abs(made) / limit))
        self.most[name] = max(self.most[name], share)
        if not share <= 1 + ROUNDING:
            self.broken(f"{name} {share:.6f} of the limit")


class ArmLimits(Limits):
    """Position, velocity and workspace; acceleration and jerk where the profile has them."""

    def check(self, command: JointCommand) -> None:
        guard, profile = self.controller.guard, self.controller.profile
        q = np.array([command.positions[name] for name in profile.joints])
        before, self.way = self.way[-1], [*self.way[1:], q]
        for name, value in command.positions.items():
            start = before[profile.joints.index(name)] if name in profile.joints else guard.low[name]
            if not min(guard.low[name], start) - 1e-8 <= value <= max(guard.high[name], start) + 1e-8:
                self.broken(f"position of {name} {value}")
        limits = {"velocity": guard.kinematics.max_velocity} | (vars(profile.motion) if profile.motion else {})
        for order, (name, limit) in enumerate(limits.items(), 1):
            self.hold(name, np.diff(self.way, order, axis=0)[-1] * profile.control_rate**order, np.array(limit))
        self._fingers(guard, command)
        self._in_room(guard, q, before)

    def _fingers(self, guard, command: JointCommand) -> None:
        """From where they were commanded last; where a motion begins, from where the guard has them measured."""
        before, self.fingers = self.fingers, np.array([command.positions.get(n, np.nan) for n in guard.finger_step])
        gone = np.nan_to_num(self.fingers - before)  # one that was never measured has come from nowhere
        if gone.size:
            self.hold("fingers", gone, np.array([*guard.finger_step.values()]))

    def _in_room(self, guard, q: np.ndarray, before: np.ndarray) -> None:
        """Where the hand is, by the box of the profile; as far out as it was, where it was measured outside."""
        box = self.controller.profile.workspace
        place, last = (guard.kinematics.forward(at).position for at in (q, before))
        for name, out, was, room in (("table", box.min[2] - place[2], box.min[2] - last[2], CLEARANCE),
                                     ("workspace", self._beside(place), self._beside(last), SLACK)):
            self.most[name] = max(self.most[name], float(out / room))
            if not out <= max(room, was) + 1e-9:
                self.broken(f"{name}: {out:.3f} m outside")

    def _beside(self, place: np.ndarray) -> float:
        """[m] outside of the box, to a side or above."""
        box = self.controller.profile.workspace
        return float(max(*(np.array(box.min) - place)[:2], *(place - box.max)))


class BaseLimits(Limits):
    """Speed and acceleration."""

    def check(self, command: TwistCommand) -> None:
        limits, rate = self.controller.profile.limits, self.controller.profile.control_rate
        before, now = self.way[-1], np.array([command.v, command.w])
        self.way = [*self.way[1:], now]
        self.hold("velocity", now, np.array([limits.v, limits.w]))
        self.hold("acceleration", (now - before) * rate, np.array([limits.v_acceleration, limits.w_acceleration]))


class Attack:
    """A controller, and who attacks it, period by period."""

    def __init__(self, profile: RobotProfile, seed: int = 0):
        self.profile, self.rng = profile, np.random.default_rng(seed)
        self.controller, self.hostile = Controller(profile), Hostile(profile, self.rng)
        self.seen, self.violations = Counter(), Counter()
        self.limits = (ArmLimits if profile.kind == "arm" else BaseLimits)(self.controller, self.count)
        start = dict(zip(profile.joints, profile.home or (0.0,) * len(profile.joints), strict=True))
        self.places = start | dict.fromkeys(profile.gripper.joints if profile.gripper else (), 0.02)
        self.now = 0

    def count(self, text: str) -> None:
        self.violations[text] += 1

    def run(self, steps: int) -> None:
        for _ in range(steps):
            try:
                self.step()
            except Exception as error:  # whatever it is, it would have ended the node
                self.count(f"raised {type(error).__name__}: {error}")

    def step(self) -> None:
        self.now += self.profile.control_period_ns
        chance = self.rng.random()
        if chance < 0.7:
            self.tried(lambda: self.controller.observe(self.hostile.joints(self.now, self.places)))
        if self.rng.random() < 0.15:
            self.tried(lambda: self.controller.accept(self.hostile.chunk(self.now)))
        if self.rng.random() < 0.01:
            self.seen["halts"] += 1
            self.controller.halt()
        if self.rng.random() < 0.002:
            self.seen["resets"] += 1
            self.controller.reset()
        out = self.tried(self.tick) or self.tried(self.plain_tick) or self.plain_tick()  # once refused, the next brakes
        if out is None:
            return
        self.seen["commands"] += 1
        self.limits.check(out)
        self.places |= getattr(out, "positions", {})

    def tick(self) -> Command | None:
        """Now and then a command takes the decoder's place."""
        if self.rng.random() < 0.1 and not self.controller.resting:
            return self.controller.guard.check(self.hostile.command(self.controller)).command
        return self.plain_tick()

    def plain_tick(self) -> Command | None:
        return self.controller.tick(self.now).command

    def tried(self, call: Callable):
        """What `call` returns; None where it is refused or the policy failed."""
        try:
            return call()
        except (ActionError, PolicyError) as error:
            self.seen[f"refused: {getattr(error, 'reason', 'exception')}"] += 1


def robots() -> dict[str, RobotProfile]:
    """The shipped ones, and an arm without limits of acceleration and jerk, which takes velocities."""
    panda, husky = load_profile("panda"), load_profile("husky")
    by_velocity = replace(panda.command, interface="velocity")
    return {"panda": panda, "unbounded": replace(panda, motion=None, command=by_velocity), "husky": husky}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--n", type=int, default=100_000, help="control periods of each robot (default 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=robots(), help="robots (default: all)")
    args = parser.parse_args()
    found, bad = [], False
    with np.errstate(all="ignore"):
        for name, profile in robots().items():
            if args.only and name not in args.only:
                continue
            attack = Attack(profile, args.seed)
            attack.run(args.n)
            bad = bad or bool(attack.violations)
            most = {limit: round(share, 3) for limit, share in attack.limits.most.items()}
            print(f"{name:8} n {args.n:8}  commands {attack.seen['commands']:8}  violations "
                  f"{sum(attack.violations.values())}  {most}", flush=True)
            for text, times in attack.violations.most_common(20):
                print(f"    {times} times {text[:200]}")
            found.append({"robot": name, "n": args.n, "violations": sum(attack.violations.values()), "most": most,
                          **attack.seen})
    print(json.dumps({"adversary": found}))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
