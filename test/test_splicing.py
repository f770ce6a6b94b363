"""How chunks are spliced: between the two, never the gripper, never the past, and never across an end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, ROBOTS, chunk, joint_state, ready, values_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_control import FORWARD, STILL, TICK, assert_within_limits, run

from vla_ros.chunking import ChunkScheduler, Step
from vla_ros.decoding import ArmDecoder, BaseDecoder
from vla_ros.errors import ActionError, UnknownNameError
from vla_ros.evaluation.conditions import make_setting
from vla_ros.evaluation.rollout import run_setting
from vla_ros.kinematics import ArmKinematics
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.splicing import BLEND_STEPS, SPLICES, Span, get_splice

PERIOD = PANDA.action.period_ns
MIXING = [name for name in SPLICES if name != "switch"]
ARM = ArmKinematics(PANDA)
every_splice, mixing = pytest.mark.parametrize("splice", SPLICES), pytest.mark.parametrize("splice", MIXING)


def scheduled(splice: str, *arrivals) -> ChunkScheduler:
    """arrivals: (stamp, moment) [periods] of chunks of eight steps: each is accepted, and in force, at its moment."""
    made = ChunkScheduler(PANDA.action, splice)
    for stamp, moment in arrivals:
        made.accept(chunk(PANDA, np.zeros((8, 4)), stamp * PERIOD))
        made.at(moment * PERIOD)
    return made


@st.composite
def spans_and_now(draw):
    """Chunks that are all in force now, in the order in which they came."""
    since = sorted(draw(st.lists(st.integers(0, 8 * PERIOD), min_size=1, max_size=5)))
    now = since[-1] + draw(st.integers(0, 8 * PERIOD))
    return [Span(s, now + draw(st.integers(1, 8 * PERIOD))) for s in since], now


@every_splice
@given(spans_and_now())
def test_shares_are_never_negative_and_add_up_to_one(splice, case):
    spans, now = case
    shares = get_splice(splice)(spans, now, PERIOD)
    assert len(shares) == len(spans) and min(shares) >= 0 and sum(shares) == pytest.approx(1)


@given(spans_and_now())
def test_switch_gives_all_to_the_newest_and_an_ensemble_most_to_the_oldest(case):
    spans, now = case
    assert get_splice("switch")(spans, now, PERIOD)[-1] == 1
    shares = get_splice("ensemble")(spans, now, PERIOD)
    assert all(old == pytest.approx(new * np.exp(0.01)) for old, new in pairwise(shares))


@given(st.integers(1000, 8 * PERIOD))
def test_a_blend_goes_from_the_old_to_the_new_and_is_there_before_the_old_ends(left):
    """left: [ns] of the chunk before."""
    spans, length = (Span(0, left), Span(0, 8 * PERIOD)), min(left, BLEND_STEPS * PERIOD)
    taken = [get_splice("blend")(spans, round(part * length), PERIOD)[1] for part in np.linspace(0, 1, 21)]
    assert taken[0] == 0 and taken[-1] == 1 and taken == sorted(taken)
    assert max(np.diff(taken)) < 1.6 / 20, "no step on the way"


@given(st.floats(0.05, 1.95))
def test_a_third_chunk_takes_over_from_the_mix_of_the_two_before(early):
    """It comes before the second has taken over: at that moment nothing changes."""
    spans, now = [Span(0, 9 * PERIOD), Span(0, 9 * PERIOD)], round(early * PERIOD)
    before = get_splice("blend")(spans, now, PERIOD)
    after = get_splice("blend")([*spans, Span(now, 9 * PERIOD)], now, PERIOD)
    assert after == pytest.approx([*before, 0]) and 0 < before[1] < 1


def test_an_unknown_splice_is_an_error_that_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="blend, ensemble, switch"):
        ChunkScheduler(PANDA.action, "average")


# The scheduler

@every_splice
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=6), st.integers(0, 20))
def test_of_every_chunk_only_the_step_of_now_counts(splice, arrivals, later):
    """Whatever comes, and how late: no part is of the past, all parts are in force, and the newest rules."""
    made, now = ChunkScheduler(PANDA.action, splice), 0
    for gap, late in arrivals:
        stamp, now = now + gap * PERIOD // 2, now + (gap + late) * PERIOD // 2
        made.accept(chunk(PANDA, np.zeros((8, 4)), stamp))
        step = made.at(now)
        if step:
            assert step.chunk.stamp == stamp and sum(part.share for part in step.parts) == pytest.approx(1)
            assert all(part.index == (now - part.chunk.stamp) // PERIOD for part in step.parts)
            assert [p.chunk.stamp for p in step.parts] == sorted(p.chunk.stamp for p in step.parts)


@every_splice
@given(st.permutations(range(4)))
def test_the_order_of_arrival_does_not_matter_beyond_the_newest_observation(splice, order):
    """Those that come behind a newer one are refused, and those that were never in force leave no trace."""
    made = ChunkScheduler(PANDA.action, splice)
    for stamp in order:
        try:
            made.accept(chunk(PANDA, np.zeros((8, 4)), stamp * PERIOD))
        except ActionError as error:
            assert error.reason == "order"
    step = made.at(4 * PERIOD)
    assert step.chunk.stamp == 3 * PERIOD and step.older == ()


@mixing
def test_chunks_are_mixed_while_both_have_steps(splice):
    made = scheduled(splice, (0, 0), (4, 5))
    step = made.at(6 * PERIOD)
    assert [(part.chunk.stamp // PERIOD, part.index) for part in step.parts] == [(0, 6), (4, 2)]
    assert made.at(9 * PERIOD).older == ()


def test_a_crossfade_begins_when_the_chunk_takes_over_not_when_it_was_observed():
    step = scheduled("blend", (0, 0), (1, 5)).at(5 * PERIOD)
    assert step.share == 0 and step.older[0].share == 1


@mixing
def test_the_end_of_the_newest_chunk_is_a_hold_though_an_older_one_has_steps_left(splice):
    made = scheduled(splice, (0, 0))
    made.accept(chunk(PANDA, np.zeros((2, 4)), PERIOD))
    assert made.at(2 * PERIOD).older and made.at(3 * PERIOD) is None
    made.accept(chunk(PANDA, np.zeros((2, 4)), 4 * PERIOD))
    assert made.at(4 * PERIOD).older == (), "nothing is mixed across a hold"


@mixing
def test_a_long_chunk_does_not_come_back_when_a_shorter_one_that_took_over_from_it_ends(splice):
    made = ChunkScheduler(PANDA.action, splice)
    for stamp, horizon in ((0, 40), (4, 6), (9, 8)):
        made.accept(chunk(PANDA, np.zeros((horizon, 4)), stamp * PERIOD))
        assert made.at(stamp * PERIOD) is not None
    assert made.at(9 * PERIOD + PERIOD // 2).older and made.at(10 * PERIOD).older == ()


@mixing
def test_nothing_is_mixed_across_a_refusal(splice):
    made = scheduled(splice, (0, 0))
    made.accept(chunk(PANDA, np.zeros((0, 4)), PERIOD, refusal="there is no red cube"))
    assert made.at(PERIOD) is None
    made.accept(chunk(PANDA, np.zeros((8, 4)), 2 * PERIOD))
    assert made.at(2 * PERIOD).older == ()


@mixing
def test_nothing_is_mixed_across_a_refusal_that_another_chunk_overtakes(splice):
    """Both come between two ticks: no hold was seen in between, but it was refused."""
    made = scheduled(splice, (0, 0))
    made.accept(chunk(PANDA, np.zeros((0, 4)), PERIOD, refusal="there is no red cube"))
    made.accept(chunk(PANDA, np.zeros((8, 4)), 2 * PERIOD))
    assert made.at(2 * PERIOD).older == ()


@mixing
def test_nothing_is_mixed_across_a_reset(splice):
    made = scheduled(splice, (0, 0))
    made.reset()
    made.accept(chunk(PANDA, np.zeros((8, 4)), PERIOD))
    assert made.at(PERIOD).older == ()


# The decoders

steps4 = st.lists(st.lists(st.floats(-0.02, 0.02), min_size=3, max_size=3), min_size=8, max_size=8).map(np.array)


def joined(old, new, share: float, fraction: float = 0.5) -> Step:
    return Step(new, 1, fraction, share, (Step(old, 5, fraction, 1 - share),))


def observed(stamp: int):
    """The hand was elsewhere at each observation: the same deltas are not the same targets."""
    return joint_state(PANDA, stamp, np.array(PANDA.home) + 0.02 * stamp / PERIOD)


def place(step: Step) -> np.ndarray:
    return ArmDecoder(PANDA, ARM).goal(step, observed, []).position


@settings(max_examples=30)
@given(steps4, steps4, st.floats(0, 1))
def test_a_spliced_arm_goes_between_the_targets_of_the_two(old, new, share):
    old, new = (chunk(PANDA, np.column_stack([s, np.ones(8)]), stamp) for s, stamp in ((old, 0), (new, 4 * PERIOD)))
    first, last = place(Step(old, 5, 0.5)), place(Step(new, 1, 0.5))
    here = ARM.forward(ARM.vector(observed(new.stamp))).position + new.values[0, :3] + new.values[1, :3] / 2
    np.testing.assert_allclose(last, here, atol=1e-9, err_msg="each is anchored at its own observation")
    np.testing.assert_allclose(place(joined(old, new, share)), first + share * (last - first), atol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_the_gripper_is_that_of_the_newest_chunk_whatever_its_share(share):
    """At the step of that chunk: it closes at its second one, the older one opened long ago, or the other way round."""
    old, new = (chunk(PANDA, [[0, 0, 0, g]] + [[0, 0, 0, 1 - g]] + [[0, 0, 0, g]] * 6, stamp)
                for g, stamp in ((1.0, 0), (0.0, 4 * PERIOD)))
    for a, b, gap in ((old, new, PANDA.gripper.open), (new, old, PANDA.gripper.closed)):
        command = ArmDecoder(PANDA, ARM).decode(joined(a, b, share), observed, joint_state(PANDA), [])
        assert [command.positions[joint] for joint in PANDA.gripper.joints] == [gap / 2] * 2


@given(values_of(HUSKY), values_of(HUSKY), st.floats(0, 1))
def test_a_spliced_base_drives_between_the_velocities_of_the_two(old, new, share):
    old, new = (chunk(HUSKY, np.resize(values, (8, 2))) for values in (old, new))
    command = BaseDecoder().decode(joined(old, new, share), None, None, [])
    expected = (1 - share) * old.values[5] + share * new.values[1]
    np.testing.assert_allclose([command.v, command.w], expected, atol=1e-12)


# The controller

@settings(max_examples=15)
@given(st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("robot", ROBOTS)
@mixing
def test_limits_hold_for_any_sequence_of_spliced_chunks(splice, robot, data):
    """Each is observed, and arrives, while the one before runs."""
    profile, now, commands = ROBOTS[robot], 0, []
    controller = ready(profile, splice=splice)
    before = STILL if profile.kind == "base" else joint_state(profile).positions
    for values in data.draw(st.lists(values_of(profile), min_size=2, max_size=4)):
        controller.observe(replace(controller.current, stamp=now))
        controller.accept(chunk(profile, values, now))
        ticks = data.draw(st.integers(1, 30))
        commands += run(controller, ticks, now)
        now += ticks * TICK
    assert_within_limits(controller, commands, before)


def seam(splice: str, robot: str = "panda", ticks: int = 24):
    """The seam between two chunks, the second of which leads back; the tick after it; and the controller."""
    profile = ROBOTS[robot]
    controller = ready(profile, FORWARD[robot], splice=splice)
    run(controller, ticks)
    now = ticks * TICK
    controller.observe(joint_state(profile, now))
    controller.accept(chunk(profile, -np.array(FORWARD[robot]), now))
    return controller.tick(now), controller.tick(now + TICK), controller


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_seam_says_how_far_the_chunks_are_apart_and_what_is_left_of_it(robot):
    made = {splice: seam(splice, robot)[0].seam for splice in SPLICES}
    gaps = {s.gap for s in made.values()}
    assert len(gaps) == 1 and gaps.pop() > 1e-3, "the gap is that of the chunks"
    assert made["switch"].jump == made["switch"].gap > made["ensemble"].jump > made["blend"].jump == 0
    assert made["ensemble"].jump == pytest.approx(made["ensemble"].gap / 2, rel=0.05)


def test_the_gap_of_a_base_is_the_difference_of_its_velocities():
    values = np.array(FORWARD["husky"][0])
    assert seam("switch", "husky")[0].seam.gap == pytest.approx(2 * np.abs(values).max())


@every_splice
def test_a_seam_is_where_one_chunk_meets_another_and_nowhere_else(splice):
    first, second, controller = seam(splice)
    assert first.seam is not None and second.seam is None
    assert all(ready(PANDA, FORWARD["panda"], splice=splice).tick(i * TICK).seam is None for i in range(3))
    controller.halt()
    now = 30 * TICK
    controller.observe(joint_state(PANDA, now))
    controller.accept(chunk(PANDA, FORWARD["panda"], now))
    assert controller.tick(now).seam is None, "a halt parts them"


def test_a_chunk_that_comes_after_the_end_of_the_one_before_makes_no_seam():
    assert seam("switch", ticks=50)[0].seam is None


@mixing
def test_what_goes_out_is_not_changed_by_looking_at_the_seam(splice):
    """The same way is commanded by a controller whose seams nobody measures: one that decodes step by step."""
    controller, decoder, scheduler = ready(PANDA, splice=splice), ArmDecoder(PANDA, ARM), scheduled(splice)
    state = joint_state(PANDA)
    for tick in range(60):
        if tick in (0, 24):
            made = chunk(PANDA, FORWARD["panda"], tick * TICK)
            controller.observe(joint_state(PANDA, tick * TICK))
            controller.accept(made)
            scheduler.accept(made)
        moved, step = controller.tick(tick * TICK), scheduler.at(tick * TICK)
        assert moved.command == decoder.decode(step, lambda stamp: state, state, [])


@every_splice
def test_an_evaluation_takes_a_splice_and_says_the_largest_gap(splice):
    world, mixed = MockWorld(PANDA, cameras=("front",)), []
    setting = replace(make_setting("reach", 3), latency=0.1)
    outcome = run_setting(world, OraclePolicy(world), setting, thinking=0.0, splice=splice,
                          on_step=lambda w, tick: mixed.append(bool(tick.step and tick.step.older)))
    assert outcome.success and outcome.gap > 0 and any(mixed) == (splice in MIXING)
