"""The guard: nothing that is not finite passes, limits hold whatever comes, and what is changed is said.

An arm's with limits of acceleration and jerk in its profile: test_motion.py. Here are those of a profile without.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from core_samples import HUSKY, joint_state, number
from core_samples import PANDA as SHIPPED
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ActionError
from vla_ros.guard import CLEARANCE, ROUNDING, SETTLED, SLACK, ArmGuard, BaseGuard, clamp, clamp_place, further
from vla_ros.kinematics import ArmKinematics
from vla_ros.types import JointCommand, Pose, TwistCommand

PANDA = replace(SHIPPED, motion=None)
VELOCITY = replace(PANDA, command=replace(PANDA.command, interface="velocity"))
KINEMATICS = ArmKinematics(PANDA)
FINGERS = PANDA.gripper.joints
NAMES = (*PANDA.joints, *FINGERS)
HOME = joint_state(PANDA).positions
START = np.array(PANDA.home)
STILL = TwistCommand(0.0, 0.0)
BAD = [np.nan, np.inf, -np.inf]

targets = st.fixed_dictionaries({name: number(5.0) for name in NAMES})


def arm(q=START, profile=PANDA) -> ArmGuard:
    guard = ArmGuard(profile, KINEMATICS)
    guard.begin(np.array(q))
    return guard


def base() -> BaseGuard:
    guard = BaseGuard(HUSKY)
    guard.begin()
    return guard


def command(q) -> JointCommand:
    return JointCommand(dict(zip(PANDA.joints, np.asarray(q).tolist(), strict=True)))


@settings(max_examples=60, deadline=None)
@given(st.lists(targets, min_size=1, max_size=30), st.integers(0, 3))
def test_positions_and_steps_of_an_arm_never_exceed_the_limits(wanted, holds):
    guard, before = arm(), HOME
    for target in wanted:
        out = [guard.check(JointCommand(target)).command, *(guard.brake() for _ in range(holds))]
        for positions in (made.positions for made in out):
            assert set(positions) == set(NAMES)
            for name, value in positions.items():
                assert guard.low[name] - ROUNDING <= value <= guard.high[name] + ROUNDING
                if name in guard.step:
                    assert abs(value - before[name]) <= guard.step[name] + 2 * ROUNDING
            before = positions


@given(targets)
def test_what_an_arm_guard_changes_it_says_and_what_it_says_it_changed(wanted):
    guarded = arm().check(JointCommand(wanted))
    if any(said.startswith("workspace") for said in guarded.interventions):
        return
    for name, value in wanted.items():
        changed = abs(guarded.command.positions[name] - value) > ROUNDING
        assert changed == any(said.startswith(f"{name} ") for said in guarded.interventions)


def test_an_arm_that_stands_still_inside_its_limits_is_left_alone():
    guarded = arm().check(command(START))
    assert guarded.interventions == () and guarded.command == command(START)


def test_an_arm_beyond_its_limits_is_led_back_no_faster_than_allowed():
    name, measured = PANDA.joints[6], START.copy()
    guard = arm()
    measured[6] = guard.high[name] + 0.5
    guard.begin(measured)
    out = guard.check(command(START)).command.positions
    assert out[name] == pytest.approx(measured[6] - guard.step[name], abs=1e-8)


def test_a_target_beyond_the_limits_ends_a_margin_before_them_and_is_told():
    guard, name = arm(), PANDA.joints[6]  # it turns the hand and moves it nowhere
    said = [guard.check(JointCommand(HOME | {name: 9.0})) for _ in range(200)][-1]
    assert said.command.positions[name] == pytest.approx(KINEMATICS.upper[6] - PANDA.position_margin)
    assert PANDA.position_margin > 0 and said.interventions[0].startswith(f"{name} position 9 to")


def test_fingers_are_clamped():
    guard, finger = arm(), FINGERS[0]
    out = guard.check(JointCommand(HOME | {finger: 0.5}))
    assert out.command.positions[finger] == PANDA.gripper.open / 2
    assert any(said.startswith(finger) for said in out.interventions)


def test_fingers_by_position_go_at_their_own_speed():
    guard, finger = arm(), FINGERS[0]
    guard.begin(START, {finger: 0.03})
    assert guard.check(JointCommand(HOME | {finger: 0.0})).command.positions[finger] == 0.0


def test_fingers_by_velocity_go_no_faster_than_the_urdf_lets_them_and_that_is_told():
    guard, finger = arm(profile=VELOCITY), FINGERS[0]
    guard.begin(START, {finger: 0.03, FINGERS[1]: 0.03})
    step, gone = KINEMATICS.finger_speed[finger] / PANDA.control_rate, []
    for _ in range(30):
        said = guard.check(JointCommand(HOME | dict.fromkeys(FINGERS, 0.0)))
        gone.append(said.command.positions[finger])
        assert (f"{finger} step" in " ".join(said.interventions)) == (gone[-1] > 0)
    assert gone[0] == pytest.approx(0.03 - step) and gone[-1] == 0.0 and 0 < step < 0.01
    assert np.abs(np.diff(gone)).max() <= step + 1e-9
    guard.check(JointCommand(HOME | {finger: 0.04}))
    assert guard.brake().positions[finger] == pytest.approx(step), "and stay where they were told to be"


def test_fingers_by_velocity_go_on_from_where_they_are_measured():
    guard, finger = arm(profile=VELOCITY), FINGERS[0]
    for opened in (0.02, 0.03):  # somebody else may have opened them
        guard.begin(START, {finger: opened})
        assert guard.before[finger] == opened
        made = [guard.check(JointCommand(HOME | {finger: 0.0})).command.positions[finger] for _ in range(20)]
        assert made[0] == pytest.approx(opened - KINEMATICS.finger_speed[finger] / 60) and made[-1] == 0.0


@pytest.mark.parametrize("measured", [1e9, -1e9, np.nan, np.inf])
def test_fingers_that_are_measured_where_they_cannot_be_are_told_nothing_absurd(measured):
    guard, finger = arm(profile=VELOCITY), FINGERS[0]
    guard.begin(START, {finger: measured})
    out = guard.check(JointCommand(HOME | {finger: 0.01})).command.positions[finger]
    assert 0.0 <= out <= PANDA.gripper.open / 2


def test_a_hand_that_would_leave_the_workspace_is_held_and_one_outside_may_come_back():
    guard = arm()
    down = KINEMATICS.inverse(Pose(np.array([0.5, 0.0, -0.25]), KINEMATICS.forward(START).rotation), START)
    made = [guard.check(command(down)) for _ in range(200)]
    assert made[-1].interventions[-1].startswith("workspace and its margin left by")
    assert made[-1].command == made[-2].command
    heights = [KINEMATICS.forward(np.array([m.command.positions[n] for n in PANDA.joints])).position[2] for m in made]
    assert min(heights) >= PANDA.workspace.min[2] - CLEARANCE - 1e-9 and min(heights) < PANDA.workspace.min[2]
    back, q = arm(down), down
    assert KINEMATICS.forward(down).position[2] < PANDA.workspace.min[2] - CLEARANCE
    for _ in range(200):
        q = KINEMATICS.step(q, KINEMATICS.forward(START), 1 / PANDA.control_rate)
        out = back.check(command(q)).command
    ends = KINEMATICS.forward(np.array([out.positions[n] for n in PANDA.joints])).position
    assert ends == pytest.approx(KINEMATICS.forward(START).position, abs=0.01)


@pytest.mark.parametrize("axis, way, room", [(0, -1, SLACK), (1, -1, SLACK), (2, -1, CLEARANCE), (0, 1, SLACK),
                                             (1, 1, SLACK), (2, 1, SLACK)])
def test_the_room_around_the_workspace_is_least_above_the_table(axis, way, room):
    guard, box = arm(), PANDA.workspace
    place = np.mean([box.min, box.max], axis=0)
    place[axis] = (box.min, box.max)[way > 0][axis] + way * (room + 0.01)
    guard.kinematics = SimpleNamespace(forward=lambda q: Pose(place, np.eye(3)))
    assert guard._outside(START)[axis] == pytest.approx(0.01) and np.count_nonzero(guard._outside(START)) == 1
    assert CLEARANCE <= box.min[2], "the hand of the shipped profile never goes below the table"


def test_a_hand_that_comes_back_from_a_side_does_not_dip_into_the_table():
    guard, box = arm(), PANDA.workspace
    places = {0: [0.9, 0.0, 0.0], 1: [0.85, 0.0, -0.03], 2: [0.85, 0.0, 0.0]}
    guard.kinematics = SimpleNamespace(forward=lambda q: Pose(np.array(places[round(float(q[0]))]), np.eye(3)))
    beside, dipped, nearer = (guard._outside([q]) for q in places)
    assert further(dipped, beside) and not further(nearer, beside) and np.linalg.norm(dipped) < np.linalg.norm(beside)
    assert box.max[0] + SLACK < 0.85 and box.min[2] - CLEARANCE > -0.03


def test_a_place_outside_the_workspace_is_brought_inside_and_told():
    said = []
    inside = clamp_place(np.array([0.5, 0.0, -0.2]), PANDA.workspace, said)
    assert inside.tolist() == [0.5, 0.0, PANDA.workspace.min[2]] and said == ["workspace z -0.2 to 0.01"]
    assert clamp_place(inside, PANDA.workspace, said).tolist() == inside.tolist() and len(said) == 1
    with pytest.raises(ActionError):
        clamp_place(np.array([np.nan, 0, 0]), PANDA.workspace, said)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_one_target_that_is_not_finite_refuses_the_whole_command(name, bad):
    guard = arm()
    with pytest.raises(ActionError) as caught:
        guard.check(JointCommand(HOME | {name: bad}))
    assert caught.value.reason == "finite" and guard.brake() is None, "where the fingers are to be is not known"
    sent = guard.check(JointCommand(HOME)).command
    with pytest.raises(ActionError):
        guard.check(JointCommand(HOME | {name: bad}))
    assert guard.brake() == sent


@pytest.mark.parametrize("bad", BAD)
def test_a_beginning_that_is_not_finite_bounds_nothing_and_is_refused(bad):
    with pytest.raises(ActionError):
        arm([bad, *START[1:]])


@pytest.mark.parametrize("beyond", [0.6, -6.0, 1e9])
def test_where_no_joint_can_be_is_no_beginning(beyond):
    """A little outside may be: a model of a robot is not the robot."""
    limits = KINEMATICS.upper if beyond > 0 else KINEMATICS.lower
    arm([limits[0] + np.sign(beyond) * 0.3, *START[1:]])
    with pytest.raises(ActionError, match="panda_joint1 is measured at") as caught:
        arm([limits[0] + beyond, *START[1:]])
    assert caught.value.reason == "astray"


def test_joints_are_those_of_the_profile():
    for positions, text in ((HOME | {"panda_joint8": 0.0}, "panda_joint8.*known: panda_joint1"),
                            ({PANDA.joints[0]: 0.0}, "lacks.*panda_joint2")):
        with pytest.raises(ActionError, match=text) as caught:
            arm().check(JointCommand(positions))
        assert caught.value.reason == "joints"


def test_nothing_is_commanded_before_a_beginning_nor_after_it_was_forgotten():
    forgotten = arm()
    forgotten.forget()
    for guard in (ArmGuard(PANDA, KINEMATICS), forgotten):
        assert guard.brake() is None and guard.resting
        with pytest.raises(ActionError):
            guard.check(JointCommand(HOME))
    assert BaseGuard(HUSKY).brake() is None and BaseGuard(HUSKY).resting


def test_an_arm_rests_when_it_was_held_for_a_while():
    guard = arm()
    guard.check(command(START + 0.01))
    held = [guard.resting or guard.brake() for _ in range(round(SETTLED * PANDA.control_rate) + 1)]
    assert held[-1] is True and True not in held[:-1] and len({str(made) for made in held[:-1]}) == 1
    guard.check(command(START))
    assert not guard.resting


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(number(5.0), number(5.0)), min_size=1, max_size=30))
def test_speed_and_acceleration_of_a_base_never_exceed_the_limits(wanted):
    guard, limits, dt, before = base(), HUSKY.limits, 1 / HUSKY.control_rate, STILL
    for v, w in wanted:
        out = guard.check(TwistCommand(v, w)).command
        assert abs(out.v) <= limits.v and abs(out.w) <= limits.w
        assert abs(out.v - before.v) <= limits.v_acceleration * dt + 1e-12
        assert abs(out.w - before.w) <= limits.w_acceleration * dt + 1e-12
        before = out


@pytest.mark.parametrize("bad", BAD)
def test_a_velocity_that_is_not_finite_is_refused(bad):
    for twist in (TwistCommand(bad, 0.0), TwistCommand(0.0, bad)):
        with pytest.raises(ActionError) as caught:
            base().check(twist)
        assert caught.value.reason == "finite"


def test_a_base_says_what_was_too_fast_and_what_came_too_suddenly():
    said = base().check(TwistCommand(2.0, -3.0)).interventions
    assert [" ".join(text.split()[:-3]) for text in said] == ["v", "w", "v step", "w step"]
    guard, limits = base(), HUSKY.limits
    sudden = [guard.check(TwistCommand(limits.v, 0.0)).interventions for _ in range(60)]
    assert sudden[0][0].startswith(f"v step {limits.v:g} to") and sudden[-1] == ()


def test_a_base_brakes_to_rest():
    guard = base()
    for _ in range(60):
        guard.check(TwistCommand(HUSKY.limits.v, 0.5))
    assert not guard.resting
    speeds = [guard.brake().v for _ in range(60)]
    assert speeds == sorted(speeds, reverse=True) and speeds[-1] == 0.0 and guard.resting


@given(st.floats(-10, 10), st.floats(-5, 0), st.floats(0, 5))
def test_clamp_says_exactly_what_it_changes(value, low, high):
    said = []
    out = clamp(value, low, high, "x", said)
    assert low <= out <= high and bool(said) == (abs(out - value) > ROUNDING)
