"""Each guard is taken out in turn, and a test has to notice: `python test/faults/mutants.py`.

A mutant is one change of the source, made in a copy of the tree; the tests named with it run there. One line a mutant,
with the test that failed, and one line of JSON at the end; exit code 1 when one survives, and when the source that it
changes is not there any more, or stands there twice.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("vla_ros", "sim", "config", "test", "pyproject.toml", "ARCHITECTURE.md")


@dataclass(frozen=True)
class Mutant:
    """name: the guard that is missing; old, new: source of `file` before and after; tests: arguments of pytest."""

    name: str
    file: str
    old: str
    new: str
    tests: str


def never(name: str, file: str, condition: str, tests: str) -> Mutant:
    """A refusal that never comes."""
    return Mutant(name, file, f"if {condition}:", "if False:", tests)


ONE_WORD = "test/test_observing.py -k reason_is_one_word"
GATE, GUARD, MOTION, CONTROL = (f"vla_ros/{name}.py" for name in ("observing", "guard", "motion", "control"))
CONVERT, MALFORMED = "vla_ros/nodes/convert.py", "test/test_convert.py -k malformed_images"
CHUNKS, COMMANDING = "vla_ros/chunking.py", "vla_ros/nodes/commanding.py"
BARRED = "barred = self.stopped or self.held or self.missing or not self.instruction"
HALT, LOOP = "test/test_commanding.py -k halt", "vla_ros/nodes/control_loop.py"
NODE = "vla_ros/nodes/control_node.py"
WAY, FINITE = "test/test_motion.py -k limits_hold_whatever", "test/test_guard.py -k not_finite"

MUTANTS = (
    # the observation gate
    never("over-age", GATE, "age > limit", ONE_WORD),
    never("from the future", GATE, "age < -profile.max_observation_age", ONE_WORD),
    never("skew", GATE, "skew > profile.max_skew", ONE_WORD),
    never("image size", GATE, "image.shape != expected or image.dtype != np.uint8",
          "test/test_observing.py -k another_size_or_type"),
    never("missing joints", GATE, "missing", "test/test_observing.py -k without_the_arms_joints"),
    never("black image", GATE, "int(image.max()) - int(image.min()) < BLANK",
          "test/test_inferring.py -k shows_nothing"),
    Mutant("black image, whatever the policy", "vla_ros/nodes/inferring.py", "check_shows(name, image)", "pass",
           "test/test_inferring.py -k shows_nothing"),
    never("image encoding", CONVERT, "message.encoding not in ENCODINGS", MALFORMED),
    never("image step", CONVERT, "message.step < width * channels", MALFORMED),
    never("image length", CONVERT, "len(message.data) != message.step * height", MALFORMED),
    Mutant("joints not finite", CONVERT, 'raise ObservationError("joints", f"joint {part} are not finite")', "pass",
           "test/test_convert.py -k malformed_joint"),
    never("repeated stamp", "vla_ros/nodes/pairing.py", "any(known.stamp == part.stamp for known in parts)",
          "test/test_pairing.py"),
    never("frozen camera", GATE, "moved > REPEATED", "test/test_observing.py -k picture"),
    # chunks
    never("chunk not finite", CHUNKS, "not np.isfinite(values).all()", "test/test_chunking.py -k not_finite"),
    never("chunk shape", CHUNKS, "values.ndim != 2 or values.shape[1] != spec.dim", "test/test_chunking.py -k shape"),
    never("chunk without its joints", CONTROL, "not chunk.refusal and self.joints_at(chunk.stamp) is None",
          "test/test_control.py -k without_joint_states"),
    # the guard
    Mutant("command not finite", GUARD, 'require_finite(command.positions.values(), "command holds positions that are '
           'not finite")', "pass", FINITE),
    Mutant("way ahead not finite", GUARD, 'require_finite(ahead.flat, "the way ahead holds positions that are not '
           'finite")', "pass", "test/test_motion.py -k way_ahead_that_is_not_finite"),
    never("measured where no joint can be", GUARD, "not self.low[name] - ASTRAY <= value <= self.high[name] + ASTRAY",
          "test/test_guard.py -k no_joint_can_be"),
    Mutant("place not finite", GUARD, 'require_finite(place, "the way leads to a place that is not finite")', "pass",
           "test/test_guard.py -k place_outside"),
    never("names", GUARD, "unknown or missing", "test/test_guard.py -k joints_are_those"),
    Mutant("margin", GUARD, "kinematics.lower + profile.position_margin, kinematics.upper - profile.position_margin",
           "kinematics.lower, kinematics.upper", "test/test_guard.py -k margin"),
    Mutant("position", GUARD, 'clamp(value, self.low[name], self.high[name], f"{name} position", said)', "value",
           "test/test_guard.py -k beyond_the_limits"),
    Mutant("step", GUARD, 'clamp(out[name], value - reach[name], value + reach[name], f"{name} step", said)',
           "out[name]", "test/test_guard.py -k never_exceed"),
    Mutant("fingers by velocity", GUARD, 'clamp(out[name], self._before[name] - step, self._before[name] + step, '
           'f"{name} step", said)', "out[name]", "test/test_guard.py -k by_velocity"),
    Mutant("fingers measured where they cannot be", GUARD, "min(max(value, self.low[name]), self.high[name])", "value",
           "test/test_guard.py -k absurd"),
    Mutant("workspace", GUARD, "if further(outside, self._outside(before.values())):", "if False:",
           "test/test_guard.py -k workspace"),
    Mutant("table", GUARD, "(SLACK, SLACK, CLEARANCE)", "(SLACK, SLACK, SLACK)", "test/test_guard.py -k workspace"),
    Mutant("workspace of a plan", GUARD, "return not any(further(after, before) for before, after in",
           "return True or any(further(after, before) for before, after in", "test/test_motion.py -k workspace"),
    Mutant("velocity", MOTION, "= velocity * period,", "= 1e3 * velocity * period,", WAY),
    Mutant("acceleration", MOTION, "acceleration * period**2", "1e3 * acceleration * period**2", WAY),
    Mutant("jerk", MOTION, "jerk * period**3", "1e3 * jerk * period**3", WAY),
    Mutant("position of a plan", MOTION, "return np.minimum(self.low, self.position), np.maximum(self.high, "
           "self.position)", "return self.low - 9, self.high + 9", WAY),
    Mutant("plan checked", MOTION, "self._keeps_limits(plan) and accept(plan):", "accept(plan):",
           "test/test_motion.py -k solver_that_is_wrong"),
    Mutant("braking checked", MOTION, "plan if plan is not None and self._keeps_limits(plan) and",
           "plan if plan is not None and", "test/test_motion.py -k solver_that_is_wrong"),
    Mutant("base not finite", GUARD, 'require_finite((command.v, command.w), "command holds velocities that are not '
           'finite")', "pass", FINITE),
    Mutant("base speed", GUARD, 'v = clamp(command.v, -limits.v, limits.v, "v", said)', "v = command.v",
           "test/test_guard.py -k base"),
    Mutant("base acceleration", GUARD, 'v = clamp(v, before.v - limits.v_acceleration * dt, before.v + '
           'limits.v_acceleration * dt, "v step", said)', "v = float(v)", "test/test_guard.py -k base"),
    Mutant("base turning faster", GUARD, 'w = clamp(w, before.w - limits.w_acceleration * dt, before.w + '
           'limits.w_acceleration * dt, "w step", said)', "w = float(w)", "test/test_guard.py -k base"),
    Mutant("base turning speed", GUARD, 'w = clamp(command.w, -limits.w, limits.w, "w", said)', "w = command.w",
           "test/test_guard.py -k base"),
    # the halt
    Mutant("stop", COMMANDING, BARRED, BARRED.replace("self.stopped or ", ""), "test/test_commanding.py -k stop"),
    Mutant("words that mean stop", COMMANDING, BARRED, BARRED.replace("self.held or ", ""),
           "test/test_commanding.py -k words_that_mean_stop"),
    Mutant("silence of others", COMMANDING, BARRED, BARRED.replace("self.missing or ", ""),
           "test/test_commanding.py -k falls_silent"),
    Mutant("no instruction", COMMANDING, BARRED, BARRED.replace(" or not self.instruction", ""),
           "test/test_commanding.py -k without_an_instruction"),
    Mutant("answer to other words", COMMANDING, "barred or offer.instruction != self.instruction", "barred",
           "test/test_commanding.py -k only_an_answer"),
    Mutant("words while stopped", COMMANDING, "if words == self.instruction or self.stopped:",
           "if words == self.instruction:", "test/test_commanding.py -k stop"),
    Mutant("who is missed", "vla_ros/nodes/signs.py", "if now - last > self.limits[name]", "if False",
           "test/test_signs.py"),
    Mutant("watchdog", "vla_ros/nodes/watchdog.py", "self.silence(now) <= self.limit", "self.silence(now) >= 0",
           "test/test_watchdog.py -k nobody_stands_behind"),
    Mutant("no newer chunk", COMMANDING, "now - self._last_step > self._timeout", "False", HALT),
    Mutant("policy that answers nothing", COMMANDING, "elif now - self._troubled > TROUBLE", "elif False", HALT),
    Mutant("a halt that lasts", COMMANDING,
           'self.instruction, self.offer, self.halted, self._last_step = "", None, True, None',
           "self.offer, self.halted, self._last_step = None, True, None", HALT),
    Mutant("joint states that jump", COMMANDING, "abs(joints.stamp - last.stamp) > self._max_gap", "False", HALT),
    Mutant("arm that is elsewhere", COMMANDING, "self.controller.resting or not self._follows(joints)",
           "self.controller.resting", "test/test_commanding.py -k elsewhere"),
    Mutant("clock that stands", LOOP, "elif stands > max(PAUSE, 3 * self.period):", "elif False:",
           "test/test_control_loop.py"),
    Mutant("clock that jumps", LOOP, "if abs(ahead) > JUMP else", "if False else", "test/test_control_loop.py"),
    Mutant("old joint states", LOOP, 'self.work.fail("joints", fault)', "pass", "test/test_control_loop.py"),
    Mutant("process that stood still", LOOP, "return late > self.pause", "return False", "test/test_control_loop.py"),
    Mutant("another who commands", NODE, "self.objections or self.alone.problems()", "self.objections",
           "test/ros/test_lifecycle.py -k another_commands"),
    Mutant("another who commands in the middle of a motion", NODE, "trouble = self.alone.no_more()", 'trouble = ""',
           "test/ros/test_lifecycle.py -k in_the_middle"),
    Mutant("begun anew after a pause", NODE, "self.commanding.begin()", "pass", "test/ros/test_lifecycle.py -k begins"),
    Mutant("stop from before", "vla_ros/nodes/latching.py", "self._kept if self._said is None else", "",
           "test/test_latching.py"),
)


def copy(folder: Path) -> None:
    for part in PARTS:
        source, ignore = ROOT / part, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / part, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)


def caught_by(mutant: Mutant, folder: Path) -> str:
    """The first test that fails with it; empty where none does. Raises ValueError where it cannot be made, or where
    its tests cannot be run."""
    file = folder / mutant.file
    source = file.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} has {source.count(mutant.old)} times, and not once: {mutant.old}")
    file.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        done = subprocess.run([sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider",
                               *split(mutant.tests)], cwd=folder, capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})
    finally:
        file.write_text(source, encoding="utf-8")
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or (done.returncode == 1) != bool(failed):
        raise ValueError(f"pytest {mutant.tests} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return failed[1] if failed else ""


def split(tests: str) -> list[str]:
    file, _, words = tests.partition(" -k ")
    return [file, "-k", words] if words else [file]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--only", default="", help="mutants whose name has this in it")
    args = parser.parse_args()
    survivors, errors, count = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        for mutant in MUTANTS:
            if args.only not in mutant.name:
                continue
            count += 1
            try:
                test = caught_by(mutant, Path(folder))
            except ValueError as error:
                errors.append(mutant.name)
                print(f"{mutant.name:26} ERROR {error}", flush=True)
                continue
            survivors += [] if test else [mutant.name]
            print(f"{mutant.name:26} {test or 'SURVIVES ' + mutant.tests}", flush=True)
    print(json.dumps({"mutants": count, "caught": count - len(survivors) - len(errors), "survive": survivors,
                      "errors": errors}))
    return int(bool(survivors or errors))


if __name__ == "__main__":
    sys.exit(main())
