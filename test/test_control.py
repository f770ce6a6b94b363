"""The controller's promises: limits hold whatever comes, NaN never passes, late steps drop out, it ends in a hold."""

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, ROBOTS, SMOOTH, chunk, joint_state, ready, values_of
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.control import MEMORY_NS, Controller
from vla_ros.errors import ActionError
from vla_ros.types import JointCommand, TwistCommand

STILL = TwistCommand(0.0, 0.0)
PERIOD = PANDA.action.period_ns
TICK = PANDA.control_period_ns
FORWARD = {"panda": [[0.01, 0, 0, 1]] * 8, "husky": [[0.3, 0.2]] * 8}


def run(controller: Controller, ticks: int, start: int = 0, track: bool = True):
    """The commands of `ticks` periods from `start` [ns]; track: the robot follows perfectly. A refusal gives None."""
    commands = []
    for tick in range(ticks):
        now = start + tick * TICK
        try:
            command = controller.tick(now).command
        except ActionError:
            command = None
        commands.append(command)
        if track and isinstance(command, JointCommand):
            q = [command.positions[j] for j in controller.profile.joints]
            controller.observe(joint_state(controller.profile, now + TICK, q))
    return commands


def assert_within_limits(controller: Controller, commands, before):
    """Every command inside position and velocity limits; before: what the first one starts from. An arm that did not
    follow begins each motion from there again, where it is."""
    measured = before
    for command in commands:
        if command is None:
            continue
        if isinstance(command, TwistCommand):
            limits, dt = controller.profile.limits, 1 / controller.profile.control_rate
            assert np.isfinite([command.v, command.w]).all()
            assert abs(command.v) <= limits.v and abs(command.w) <= limits.w
            assert abs(command.v - before.v) <= limits.v_acceleration * dt + 1e-9
            assert abs(command.w - before.w) <= limits.w_acceleration * dt + 1e-9
            before = command
            continue
        guard, names = controller.guard, controller.profile.joints
        assert set(names) <= set(command.positions)
        assert all(guard.low[n] - 1e-8 <= value <= guard.high[n] + 1e-8 for n, value in command.positions.items())
        moved = [np.abs([command.positions[n] - start[n] for n in names]) for start in (before, measured)]
        step = guard.kinematics.max_velocity / controller.profile.control_rate + 1e-8
        assert any((way <= step).all() for way in moved)
        before = command.positions


@settings(max_examples=60)
@given(st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("robot", ROBOTS)
def test_limits_hold_for_any_sequence_of_chunks(robot, data):
    """Random and absurd values, arriving with random delays, tracked or not."""
    profile = ROBOTS[robot]
    controller = ready(profile)
    before = STILL if profile.kind == "base" else joint_state(profile).positions
    track, now, commands = data.draw(st.booleans()), 0, []
    for values in data.draw(st.lists(values_of(profile), min_size=1, max_size=4)):
        controller.observe(joint_state(profile, now) if controller.current is None else
                           type(controller.current)(controller.current.positions, controller.current.velocities, now))
        controller.accept(chunk(profile, values, now))
        late = data.draw(st.integers(0, 12))
        commands += run(controller, 12, now + late * TICK, track)
        now += (late + 12) * TICK
    assert_within_limits(controller, commands, before)


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_chunk_that_is_not_finite_is_refused_and_the_one_in_force_stays(robot, bad):
    profile = ROBOTS[robot]
    controller = ready(profile, FORWARD[robot])
    values = np.array(FORWARD[robot], float)
    values[-1, -1] = bad
    with pytest.raises(ActionError) as caught:
        controller.accept(chunk(profile, values, 0))
    assert caught.value.reason == "finite" and controller.tick(PERIOD).step.index == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_joints_measured_as_nan_never_become_a_command():
    controller = ready(PANDA, FORWARD["panda"], q=[np.nan] * 7)
    assert run(controller, 10, track=False) == [None] * 10
    assert controller.tick(10 * TICK).command is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_overflow_in_the_decoder_is_refused_and_does_not_poison_what_follows():
    overflow = [[1e308, 0, 0, 1], [1e308, 0, 0, 1], [-1e308, 0, 0, 1]]
    controller = ready(PANDA, overflow)
    commands = run(controller, 3 * PANDA.ticks_per_step)
    assert_within_limits(controller, commands, joint_state(PANDA).positions)
    now = len(commands) * TICK
    controller.observe(joint_state(PANDA, now))
    controller.accept(chunk(PANDA, FORWARD["panda"], now))
    assert None not in run(controller, 6, now)


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("track", [True, False])
def test_it_holds_at_the_end_of_a_chunk(robot, track):
    controller = ready(ROBOTS[robot], FORWARD[robot])
    moving, after = (run(controller, n, start, track) for n, start in ((48, 0), (60, 8 * PERIOD)))
    assert len({str(command) for command in after[-30:]}) == 1 and controller.resting
    if robot == "panda":
        assert all(command == moving[-1] for command in after)
    else:
        assert moving[-1] != STILL and after[-1] == STILL
        speeds = [command.v for command in after]
        assert speeds == sorted(speeds, reverse=True)


def test_with_limits_of_acceleration_an_arm_brakes_at_the_end_of_a_chunk():
    controller = ready(SMOOTH, FORWARD["panda"])
    moving, after = (run(controller, n, start) for n, start in ((48, 0), (60, 8 * PERIOD)))
    q, end = (np.array([command.positions[j] for j in PANDA.joints]) for command in (moving[-1], after[-1]))
    assert len({str(command) for command in after[-30:]}) == 1 and controller.resting
    assert 0 < np.abs(end - q).max() < 0.02, "it brakes, and does not go on"


def test_a_motion_begins_where_the_arm_was_left():
    """Held at rest, the arm was led elsewhere: the first command is one step from there at most."""
    controller = ready(PANDA, FORWARD["panda"])
    run(controller, 48)
    run(controller, 60, 8 * PERIOD)
    led, now = np.array(PANDA.home) + 0.2, 20 * PERIOD
    controller.observe(joint_state(PANDA, now, led))
    controller.accept(chunk(PANDA, FORWARD["panda"], now))
    first = controller.tick(now).command
    assert_within_limits(controller, [first], dict(zip(PANDA.joints, led, strict=True)))


def test_a_chunk_that_comes_before_the_arm_has_settled_goes_on_from_the_last_target():
    """Its measured joints lag behind: to begin there would throw it back."""
    controller = ready(PANDA, [[0.03, 0, 0, 1]] * 8)
    run(controller, 20, track=False)
    controller.halt()
    last = run(controller, 3, 20 * TICK, track=False)[-1]
    controller.observe(joint_state(PANDA, 23 * TICK))
    controller.accept(chunk(PANDA, [[0.03, 0, 0, 1]] * 8, 23 * TICK))
    assert_within_limits(controller, run(controller, 1, 23 * TICK, track=False), last.positions)
    assert not controller.resting


@pytest.mark.parametrize("robot", ROBOTS)
def test_nothing_is_sent_before_the_first_chunk(robot):
    assert run(ready(ROBOTS[robot]), 5) == [None] * 5


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("late", range(9))
def test_a_late_chunk_drops_the_steps_that_are_past(robot, late):
    """Step i belongs to the i-th period after the observation: what comes `late` periods after it starts at `late`."""
    tick = ready(ROBOTS[robot], FORWARD[robot]).tick(late * PERIOD)
    assert (tick.step.index if tick.step else None) == (late if late < 8 else None)


def test_a_late_base_chunk_executes_the_values_of_now_and_not_those_of_then():
    values = [[0.0, 0.0]] * 4 + [[0.0, 0.9]] * 4
    assert ready(HUSKY, values).tick(4 * PERIOD).command.w > 0 == ready(HUSKY, values).tick(0).command.w


def test_a_late_arm_chunk_is_anchored_where_it_was_observed():
    """Deltas add to the pose at the observation, not to that of now: the way ends at the same place."""
    controller, late = ready(PANDA), 2
    kinematics, moved = controller.decoder.kinematics, np.array(PANDA.home) + 0.05
    controller.observe(joint_state(PANDA, late * PERIOD, moved))
    controller.accept(chunk(PANDA, FORWARD["panda"], 0))
    last = run(controller, (8 - late) * PANDA.ticks_per_step, late * PERIOD)[-1]
    end = kinematics.forward(np.array([last.positions[j] for j in PANDA.joints])).position
    expected = kinematics.forward(np.array(PANDA.home)).position + [0.08, 0, 0]
    np.testing.assert_allclose(end, expected, atol=5e-3)
    assert np.linalg.norm(end - kinematics.forward(moved).position - [0.08, 0, 0]) > 0.02


@pytest.mark.parametrize("robot", ROBOTS)
def test_halt_ends_a_chunk_at_once_and_the_next_one_is_obeyed(robot):
    controller = ready(ROBOTS[robot], FORWARD[robot])
    run(controller, 6)
    controller.halt()
    halted = controller.tick(PERIOD)
    assert halted.step is None and halted.command is not None
    controller.observe(joint_state(ROBOTS[robot], 2 * PERIOD))
    controller.accept(chunk(ROBOTS[robot], FORWARD[robot], 2 * PERIOD))
    assert controller.tick(2 * PERIOD).step.index == 0


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_refusal_holds(robot):
    controller = ready(ROBOTS[robot], FORWARD[robot])
    run(controller, 6)
    none = np.zeros((0, ROBOTS[robot].action.dim))
    controller.accept(chunk(ROBOTS[robot], none, PERIOD, refusal="there is no red cube"))
    assert controller.tick(PERIOD).step is None


def test_a_chunk_about_a_moment_without_joint_states_is_refused():
    controller = ready(PANDA, stamp=10 * PERIOD)
    for stamp in (0, 20 * PERIOD):
        with pytest.raises(ActionError) as caught:
            controller.accept(chunk(PANDA, FORWARD["panda"], stamp))
        assert caught.value.reason == "unanchored"
    with pytest.raises(ActionError):
        Controller(PANDA).accept(chunk(PANDA, FORWARD["panda"], 0))


def test_joint_states_are_kept_for_a_while_in_order_and_found_by_time():
    controller = ready(PANDA)
    for stamp in (2 * PERIOD, 5 * PERIOD, 3 * PERIOD):
        controller.observe(joint_state(PANDA, stamp))
    assert controller.current.stamp == 5 * PERIOD and controller.joints_at(2 * PERIOD + 5).stamp == 2 * PERIOD
    assert controller.joints_at(3 * PERIOD + PERIOD // 2) is None  # further away than the profile's skew
    controller.observe(joint_state(PANDA, MEMORY_NS + 2 * PERIOD))
    assert controller.joints_at(0) is None and controller.joints_at(2 * PERIOD) is not None


def test_reset_forgets_the_motion():
    controller = ready(PANDA, FORWARD["panda"])
    run(controller, 6)
    controller.reset()
    assert controller.current is None and controller.tick(7 * TICK).command is None


def test_interventions_of_the_guard_are_told():
    assert ready(HUSKY, [[5.0, 0.0]]).tick(0).interventions == ("v 5 to 0.6", "v step 0.6 to 0.025")
