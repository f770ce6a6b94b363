"""When a robot that does not move counts as stalled, and when it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from core_samples import HUSKY, PANDA, joint_state

from vla_ros.nodes.stalling import ARM, PLACE, WHEELS, Stalling, Staying
from vla_ros.types import JointCommand, TwistCommand

S = 10**9
TICK = S // 60
JOINT = PANDA.joints[3]


def away(gap, joint=JOINT):
    """A command with one joint's target this far from the sample's joints [rad]."""
    positions = joint_state(PANDA).positions
    return JointCommand(positions | {joint: positions[joint] + gap})


def run(stalling, seconds, command, moved=lambda t: 0.0, start=0.0):
    """commands: of the time [s]; moved: how far a joint is from where it began [rad]. The first moment of a reason."""
    for i in range(round(start * 60), round((start + seconds) * 60)):
        joints = joint_state(stalling.profile, i * TICK)
        name = stalling.profile.joints[0]
        joints = replace(joints, positions=joints.positions | {name: joints.positions[name] + moved(i / 60)})
        stalling.add(i * TICK, command(i / 60), joints)
        if stalling.reason:
            return i / 60
    return None


def test_it_takes_a_target_away_from_joints_that_rest_for_long_enough():
    stalling = Stalling(PANDA, 2.0)
    assert run(stalling, 5.0, lambda t: away(0.05)) == pytest.approx(2.0, abs=0.05)
    assert stalling.reason == f"told to move for 2.0 s, but no joint does; {JOINT} is 0.050 rad (or m) from its target"


def test_chunks_that_begin_anew_at_the_measured_joints_count_together():
    """The target goes away from the joints and comes back, chunk after chunk."""
    assert run(Stalling(PANDA, 2.0), 5.0, lambda t: away(0.1 * (t % 0.4))) == pytest.approx(2.3, abs=0.2)


@pytest.mark.parametrize("patience, command, moved", [
    (2.0, lambda t: away(0.9 * ARM.gap), lambda t: 0.0),  # an error of tracking
    (2.0, lambda t: away(1.0), lambda t: 2 * ARM.band * t),  # slow, but it moves
    (2.0, lambda t: away(1.0 if t < 1.9 else 0.0), lambda t: 0.0),  # not told to for long enough
    (2.0, lambda t: away(1.0 if int(t) % 4 == 0 else 0.0), lambda t: 0.0),  # told now and then: no stretch of it
    (2.0, lambda t: away(0.04, PANDA.gripper.joints[0]), lambda t: 0.0),  # fingers on a thing
    (0.0, lambda t: away(1.0), lambda t: 0.0)])  # switched off
def test_what_is_no_stall(patience, command, moved):
    assert run(Stalling(PANDA, patience), 10.0, command, moved) is None


def test_noise_does_not_hide_it():
    noise = [0.9 * ARM.band / 2, -0.9 * ARM.band / 2]
    assert run(Stalling(PANDA, 2.0), 5.0, lambda t: away(0.05), lambda t: noise[round(t * 60) % 2]) is not None


def test_a_motion_that_ends_at_an_obstacle_counts_from_there():
    found = run(Stalling(PANDA, 2.0), 9.0, lambda t: away(0.3), lambda t: min(0.02 * t, 0.06))
    assert found == pytest.approx(5.0, abs=0.3), "moved for 3 s"


def test_it_is_over_when_it_moves_or_is_no_longer_told_to():
    stalling = Stalling(PANDA, 2.0)
    run(stalling, 5.0, lambda t: away(0.05))
    stalling.add(6 * S, away(0.0), joint_state(PANDA, 6 * S))
    assert stalling.reason == ""
    run(stalling, 5.0, lambda t: away(0.05), start=7.0)
    moved = joint_state(PANDA).positions
    stalling.add(12 * S, away(0.05), replace(joint_state(PANDA), positions={n: p + 0.01 for n, p in moved.items()}))
    assert stalling.reason == ""


@pytest.mark.parametrize("v, w, moved, stalls", [
    (0.3, 0.0, 0.0, True), (0.0, 0.5, 0.0, True), (0.0, 0.0, 0.0, False), (0.01, 0.0, 0.0, False),
    (0.3, 0.0, 1.0, False)])
def test_a_base_whose_wheels_do_not_turn(v, w, moved, stalls):
    stalling = Stalling(HUSKY, 2.0)
    assert (run(stalling, 4.0, lambda t: TwistCommand(v, w), lambda t: moved * t) is not None) == stalls
    assert ("_wheel should turn at" in stalling.reason) == stalls
    assert WHEELS.gap == 10 * WHEELS.band and ARM.gap == pytest.approx(10 * ARM.band)


def stays(staying, seconds, moved, joint=JOINT, held=lambda t: False):
    """moved: how far a joint is from where it began; held: whether nothing is executed. When it says so first [s]."""
    for i in range(round(seconds * 60)):
        joints = joint_state(staying_robot(staying), i * TICK)
        if joint in joints.positions:
            joints = replace(joints, positions=joints.positions | {joint: joints.positions[joint] + moved(i / 60)})
        if not held(i / 60):
            staying.add(i * TICK, joints)
        if staying.reason:
            return i / 60
    return None


def staying_robot(staying):
    return PANDA if staying._room.get(JOINT) else HUSKY


def test_an_arm_that_moves_about_in_one_place_makes_no_progress():
    staying = Staying(PANDA, 2.0)
    assert stays(staying, 5.0, lambda t: 0.9 * PLACE["arm"] * math.sin(9 * t)) == pytest.approx(2.0, abs=0.05)
    assert staying.reason == "the arm has stayed within 0.05 rad for 2.0 s"
    staying.forget()
    assert staying.reason == ""


@pytest.mark.parametrize("robot, patience, moved, joint, held", [
    (PANDA, 2.0, lambda t: 0.03 * t, JOINT, lambda t: False),  # slow, but it gets away
    (PANDA, 2.0, lambda t: -0.02 * (int(t) % 2), PANDA.gripper.joints[0], lambda t: False),  # it takes and lets go
    (PANDA, 2.0, lambda t: 0.0, JOINT, lambda t: t % 2.2 > 0.1),  # executed now and then
    (PANDA, 0.0, lambda t: 0.0, JOINT, lambda t: False),  # switched off
    (HUSKY, 2.0, lambda t: 0.0, JOINT, lambda t: False)])  # a base
def test_what_is_no_lack_of_progress(robot, patience, moved, joint, held):
    assert stays(Staying(robot, patience), 10.0, moved, joint, held) is None


def test_joints_that_are_not_told_of_any_more_are_where_they_were():
    staying, seen = Staying(PANDA, 2.0), joint_state(PANDA)
    arm = replace(seen, positions={name: seen.positions[name] for name in PANDA.joints})
    for i in range(round(3 * 60)):
        staying.add(i * TICK, arm if i else seen)
    assert staying.reason
