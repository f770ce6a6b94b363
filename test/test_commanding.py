"""The control node's logic, without ROS; in lockstep it is the rollout of evaluation/rollout.py, bit for bit."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, SMOOTH, chunk, joint_state

from vla_ros.errors import ActionError
from vla_ros.evaluation.rollout import EXECUTE_STEPS, run_episode
from vla_ros.kinematics import ArmKinematics
from vla_ros.nodes.commanding import Commanding, Offer, kind_of
from vla_ros.nodes.lockstep import Lockstep
from vla_ros.profile import load_profile
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import TASKS
from vla_ros.types import TwistCommand

MS = 1_000_000
TICK = round(1e9 / 60)
UP = np.tile([0.0, 0.0, 0.01, 1.0], (8, 1))


def bench(profile=PANDA, words="go", values=UP, timeout=None) -> Commanding:
    """At rest at time 0, with an instruction and a chunk that answers it."""
    work = Commanding(profile, 500 * MS, timeout=timeout)
    work.joints(joint_state(profile))
    work.instruct(words)
    work.offer = Offer(chunk(profile, values), "go", 7)
    work.take()
    return work


def test_nothing_before_the_first_chunk():
    work = Commanding(PANDA, 500 * MS)
    assert work.tick(0) is None and work.state == "idle"
    work.joints(joint_state(PANDA))
    work.instruct("go")
    assert work.tick(TICK) is None and work.state == "idle" and work.rest is None


def test_a_chunk_moves_runs_out_and_is_held():
    work = bench()
    first = work.tick(0)
    assert work.state == "executing" and work.accepted.sequence == 7
    for i in range(1, 48):
        last = work.tick(i * TICK)
    assert last != first
    held = [work.tick(i * TICK) for i in range(49, 80)]
    assert work.state == "holding" and all(command == held[0] for command in held)
    assert work.commands == 1 + 47 + len(held) and len(work.latency) == 1


def test_let_go_it_comes_to_rest_and_begins_again_at_the_newest_joint_states():
    work = bench(HUSKY, values=np.tile([0.2, 0.1], (8, 1)))
    for i in range(10):
        work.tick(i * TICK)
    work.let_go()
    assert not work.resting and work.instruction == "" and work.offer is None
    speeds = [work.tick(i * TICK).v for i in range(10, 40)]
    assert work.resting and speeds[0] > 0 == speeds[-1]
    work.stop(True)
    newest = joint_state(HUSKY, 300 * MS)
    work.joints(newest)
    work.begin()
    assert work.controller.current is newest and work.tick(300 * MS) is None and work.stopped, "a stop stays"


@pytest.mark.parametrize("profile", [PANDA, HUSKY])
def test_after_some_commands_of_rest_it_is_silent_until_the_next_chunk(profile):
    work = Commanding(profile, 500 * MS, insist=10)
    work.joints(joint_state(profile))
    work.instruct("go")
    move = UP if profile is PANDA else np.tile([0.3, 0.2], (8, 1))
    work.offer = Offer(chunk(profile, move), "go", 7)
    work.take()
    sent = [work.tick(i * TICK) for i in range(120)]
    last = max(i for i, command in enumerate(sent) if command is not None)
    assert None not in sent[:last] and 48 < last < 100 and sent[last + 1:] == [None] * (119 - last)
    assert len({str(command) for command in sent[last - 9:last + 1]}) == 1, "ten of rest"
    assert work.state == "holding" and work.commands == last + 1
    work.joints(joint_state(profile, 2000 * MS))
    work.offer = Offer(chunk(profile, move, 2000 * MS), "go", 8)
    assert work.take() and work.tick(2000 * MS) is not None


@pytest.mark.parametrize("now, reason", [(-1000 * MS, "ahead: .* 1.00 s ahead of the clock"),
                                         (900 * MS, "late: the chunk came 0.90 s after .* over at 0.80 s")])
def test_a_chunk_of_another_time_moves_nothing_and_says_why(now, reason):
    work = bench()
    assert work.tick(now) is None and work.state == "failed" and re.match(reason, work.detail)
    work.offer = Offer(chunk(PANDA, UP), "go", 8)
    assert work.take() and work.tick(0) is not None and work.state == "executing", "until one comes that is in time"


def test_a_chunk_a_little_ahead_of_the_clock_waits():
    work = bench()
    work.tick(-100 * MS)
    assert work.state == "idle" and work.tick(0) is not None and work.state == "executing"


def test_only_an_answer_to_the_words_in_force_moves():
    work = bench(words="stay")
    assert work.tick(0) is None
    work.instruct("go")
    assert work.take() and work.tick(0) is not None, "a chunk that came ahead of its instruction waits for it"
    work.instruct("stay")
    assert work.tick(TICK) is not None and work.state == "holding"
    work.offer = Offer(chunk(PANDA, UP, TICK), "go", 8)
    assert not work.take()


def splicing(*between, splice="ensemble"):
    """A chunk, what happens `between`, and 500 ms after it another; the tick of that moment, and who commanded."""
    work = Commanding(PANDA, 500 * MS, splice=splice)
    work.joints(joint_state(PANDA))
    work.instruct("go")
    for stamp in (0, 500 * MS):
        if stamp:
            for happen in between:
                happen(work)
        work.joints(joint_state(PANDA, stamp))
        work.offer = Offer(chunk(PANDA, UP if stamp == 0 else -UP, stamp), "go", stamp)
        assert work.take()
        work.tick(stamp)
    return work.moved, work


def test_where_chunks_meet_they_are_spliced_and_the_gap_is_counted():
    moved, work = splicing()
    assert [part.chunk.stamp for part in moved.step.parts] == [0, 500 * MS]
    assert work.gaps.max == moved.seam.gap > work.jumps.max == moved.seam.jump > 0 and len(work.gaps) == 1


@pytest.mark.parametrize("splice", ["ensemble", "blend"])
@pytest.mark.parametrize("between", [
    (lambda work: work.instruct("stay"), lambda work: work.instruct("go")),
    (lambda work: work.stop(True), lambda work: work.stop(False), lambda work: work.instruct("go")),
    (lambda work: work.miss("policy node"), lambda work: work.miss(""), lambda work: work.instruct("go")),
    (lambda work: (work.forget("it stood still"), work.instruct("go")),)],
    ids=["other words", "a stop", "silence", "a pause of the process"])
def test_nothing_is_blended_across(between, splice):
    moved, work = splicing(*between, splice=splice)
    assert moved.step.older == () and moved.seam is None and len(work.gaps) == 0


def test_a_chunk_is_executed_for_a_while_before_a_newer_one_takes_over():
    work = bench()
    work._execute = 400 * MS
    for ms, taken in ((100, False), (399, False), (400, True), (500, False), (900, True)):
        work.joints(joint_state(PANDA, ms * MS))
        work.offer = Offer(chunk(PANDA, UP, ms * MS), "go", ms)
        assert work.take() == taken, ms
    work.offer = Offer(chunk(PANDA, UP[:0], 900 * MS, refusal="no cube"), "go", 0)
    assert work.take(), "a refusal is never early"
    work.joints(joint_state(PANDA, 1000 * MS))
    work.offer = Offer(chunk(PANDA, UP[:2], 1000 * MS), "go", 1)
    assert work.take()
    work.joints(joint_state(PANDA, 1200 * MS))
    work.offer = Offer(chunk(PANDA, UP, 1200 * MS), "go", 2)
    assert work.take(), "a short chunk has run out"


def test_without_an_instruction_nothing_moves():
    work = bench(words="")
    work.offer = Offer(chunk(PANDA, UP), "", 8)
    assert not work.take() and work.tick(0) is None


@pytest.mark.parametrize("offer, reason", [
    (chunk(PANDA, UP * np.nan), "finite"), (chunk(HUSKY, np.zeros((8, 2))), "spec"),
    (chunk(PANDA, UP, 10**12), "unanchored"),
    (replace(chunk(PANDA, UP), spec=replace(PANDA.action, period=0.2)), "spec")])
def test_a_chunk_that_must_not_be_executed_is_refused_and_counted(offer, reason):
    work = bench()
    work.tick(0)
    work.offer = Offer(offer, "go", 8)
    assert not work.take()
    assert work.tick(TICK) is not None and work.state == "executing", "what is in force stays in force"
    assert work.refusals == {reason: 1} and reason in work.detail
    work.tick(10**9)
    assert work.state == "failed"
    work.joints(joint_state(PANDA, 10**9))
    work.offer = Offer(chunk(PANDA, UP, 10**9), "go", 9)
    assert work.take() and work.tick(10**9) is not None and work.state == "executing"


def test_stop_latches_and_a_release_alone_moves_nothing():
    work = bench()
    work.tick(0)
    work.stop(True)
    held = work.tick(TICK)
    assert work.state == "stopped" and held == work.tick(2 * TICK)
    work.instruct("go")
    work.offer = Offer(chunk(PANDA, UP, 2 * TICK), "go", 8)
    assert not work.take() and work.instruction == ""
    work.instruction = "go"  # whatever may have put it there
    assert not work.take()
    work.instruction = ""
    work.stop(False)
    assert not work.take() and work.tick(3 * TICK) == held and work.state == "holding"
    work.instruct("go")
    assert work.take() and work.tick(4 * TICK) != held


def test_a_stop_gives_its_own_reason_whatever_else_is_refused():
    work = bench()
    work.tick(0)
    work.stop(True)
    work.refuse(ActionError("spec", "of another robot"))
    assert work.state == "stopped" and "vla/stop is latched" in work.detail


def test_words_that_mean_stop_hold_whatever_the_policy_answers():
    work = bench()
    work.means_stop = lambda words: words == "halt!"
    moved = work.tick(0)
    work.instruct("halt!")
    assert (work.state, work.detail) == ("held", "told to stop: 'halt!'")
    work.offer = Offer(chunk(PANDA, UP, TICK), "halt!", 8)
    assert not work.take() and work.tick(TICK) == moved == work.tick(2 * TICK)
    work.instruct("")
    assert work.held and work.state == "holding", "what was taken back has stopped all the same"
    work.instruct("go")
    work.offer = Offer(chunk(PANDA, UP, 2 * TICK), "go", 9)
    assert not work.held and work.take() and work.tick(3 * TICK) != moved


def drive(work, seconds, follow=0.0, start=0):
    """Chunk after chunk, with joints that go this share of the way to their targets each tick; states by tick."""
    states, q = [], joint_state(work.profile).positions
    for i in range(round(seconds * 60)):
        now = start + i * TICK
        work.joints(replace(joint_state(work.profile, now), positions=dict(q)))
        if i % 24 == 0:
            work.offer = Offer(chunk(work.profile, UP, now), "go", i)
            work.take()
        command = work.tick(now)
        q = {n: p + follow * (command.positions.get(n, p) - p) for n, p in q.items()}
        states.append(work.state)
    return states


@pytest.mark.parametrize("follow, stalls", [(0.0, True), (0.3, False)])
def test_joints_that_do_not_follow_are_a_stall(follow, stalls):
    work = Commanding(PANDA, 500 * MS, 400 * MS, stall_time=1.0)
    work.joints(joint_state(PANDA))
    work.instruct("go")
    states = drive(work, 3.0, follow)
    assert ("stalled" in states) == stalls and (states[-1] == "stalled") == stalls
    assert ("told to move for" in work.detail) == stalls
    work.instruct("something else")
    assert work.state != "stalled", "other words begin anew"


def test_an_arm_that_stays_in_one_place_is_said_to_until_other_words_come():
    work = Commanding(PANDA, 500 * MS, 400 * MS, stay_time=1.0)
    work.instruct("go")
    states = drive(work, 3.0)
    assert states[-1] == "no progress" and "has stayed within" in work.detail and "no progress" not in states[:50]
    work.instruct("come")
    assert work.state != "no progress"


def test_nothing_stalls_when_it_is_switched_off():
    work = Commanding(PANDA, 500 * MS, 400 * MS)
    work.joints(joint_state(PANDA))
    work.instruct("go")
    assert "stalled" not in drive(work, 3.0)


@pytest.mark.parametrize("end", [lambda work: work.stop(True), lambda work: work.fail("joints", "joint states are old"),
                                 lambda work: work.joints(joint_state(PANDA, 10**11))])
def test_what_ends_a_motion_ends_its_stall(end):
    work = Commanding(PANDA, 500 * MS, 400 * MS, stall_time=1.0)
    work.joints(joint_state(PANDA))
    work.instruct("go")
    assert drive(work, 3.0)[-1] == "stalled"
    end(work)
    assert work.state != "stalled" and "told to move" not in work.detail


def test_a_fault_that_comes_back_with_every_chunk_stands():
    work = bench()
    states = set()
    for second in range(1, 5):
        work.joints(joint_state(PANDA, second * 10**9))
        work.offer = Offer(chunk(PANDA, UP, second * 10**9), "go", second)
        work.take()
        states.add(work.state if second > 1 else "failed")
        work.tick(second * 10**9 + 900 * MS)
        states.add(work.state)
        work._max_gap = 10**10
    assert states == {"failed"} and work.detail.startswith("late: ")


def test_a_refusal_holds_and_gives_its_reason():
    work = bench()
    work.tick(0)
    work.offer = Offer(chunk(PANDA, np.zeros((0, 4)), refusal="no cube"), "go", 8)
    assert work.take()
    assert work.tick(TICK) is not None and work.state == "holding" and work.detail == "the policy refuses: no cube"
    work.hold("late")
    work.offer = Offer(chunk(PANDA, np.zeros((0, 4)), TICK, refusal="no ball"), "go", 9)
    assert work.take() and work.state == "holding" and work.detail == "the policy refuses: no ball"


def test_a_long_gap_begins_anew_from_the_measured_state():
    work = bench()
    for i in range(30):
        work.tick(i * TICK)
    work.joints(joint_state(PANDA, 10**10))
    assert work.tick(10**10) is None, "nothing that was commanded before is held on"
    work.joints(joint_state(PANDA, 5))
    assert work.controller.current.stamp == 5, "also when time jumps back"


def test_after_it_stood_still_itself_only_a_new_instruction_moves():
    work = bench(HUSKY, values=np.tile([0.3, 0.0], (8, 1)))
    assert work.tick(0).v > 0
    work.offer = Offer(chunk(HUSKY, np.tile([0.3, 0.0], (8, 1)), TICK), "go", 8)
    work.forget("stood still")
    assert work.tick(TICK) is None and (work.state, work.fault, work.instruction) == ("halted", "stood still", "")
    work.joints(joint_state(HUSKY, TICK))
    assert not work.take(), "the answer to the words before"
    work.instruct("go")
    assert not work.take(), "nor under the same words again"
    work.offer = Offer(chunk(HUSKY, np.tile([0.3, 0.0], (8, 1)), TICK), "go", 9)
    assert work.take() and work.tick(TICK).v > 0
    work.stop(True)
    work.forget("stood still again")
    assert work.stopped, "a stop stays latched"


def test_what_falls_silent_halts_and_bars_motion_until_it_is_heard():
    work = bench()
    held = work.tick(0)
    work.miss("policy node")
    assert (work.tick(TICK), work.state, work.halts) == (held, "halted", {"silence": 1})
    assert work.detail == "nothing heard from the policy node (only another instruction moves again)"
    work.instruct("go")
    work.offer = Offer(chunk(PANDA, UP, TICK), "go", 8)
    work.joints(joint_state(PANDA, TICK))
    assert not work.take()
    work.miss("")
    assert work.take() and work.tick(2 * TICK) != held and work.state == "executing"


HALTS = {"chunks": lambda work: work.tick(901 * MS + TICK),
         "silence": lambda work: work.miss("policy node"),
         "policy": lambda work: [work.policy_says("stale: 'front' is 0.3 s old", at) for at in (5.0, 5.15, 5.25)],
         "joints": lambda work: work.joints(joint_state(work.profile, 10**12)),
         "guard": lambda work: (setattr(work.controller.decoder, "decode", refusing), work.tick(700 * MS))}


def refusing(*command):
    raise ActionError("finite", "command is not finite")


@pytest.mark.parametrize("kind", HALTS)
@pytest.mark.parametrize("profile", [PANDA, HUSKY], ids=["arm", "base"])
def test_after_a_halt_only_another_instruction_moves(profile, kind):
    """Be it in the same words. What comes before is on the way to rest, from what was commanded last."""
    values = UP if profile is PANDA else np.tile([0.4, 0.0], (8, 1))
    work = bench(profile, values=values, timeout=100 * MS)
    for now in range(0, 700 * MS, TICK):
        work.tick(now)
    decode = work.controller.decoder.decode
    HALTS[kind](work)
    work.controller.decoder.decode = decode
    assert (work.state, work.instruction, work.halts) == ("halted", "", {kind: 1}) and work.fault in work.detail
    work.miss("")
    work.policy_says("", 6.0)
    now = 10**12
    work.joints(joint_state(profile, now))
    work.offer = Offer(chunk(profile, values, now), "go", 8)
    assert not work.take(), "an answer to the words before"
    if profile is HUSKY:
        speeds = [work.moved.command.v, *(work.tick(now + i * TICK).v for i in range(60))]
        assert speeds[0] > speeds[1] > 0 and speeds[-1] == 0.0
        assert np.abs(np.diff(speeds)).max() <= profile.limits.v_acceleration / profile.control_rate + 1e-9
    work.instruct("go")
    assert work.state != "halted"
    work.joints(joint_state(profile, now + 10 * MS))
    work.offer = Offer(chunk(profile, values, now + 10 * MS), "go", 9)
    assert work.take() and work.tick(now + 2 * TICK) is not None and work.state == "executing"


def test_a_newer_chunk_in_time_or_a_refusal_is_no_halt():
    work = bench(timeout=100 * MS)
    work.tick(790 * MS)
    work.tick(880 * MS)
    assert work.state == "holding"
    work.joints(joint_state(PANDA, 880 * MS))
    work.offer = Offer(chunk(PANDA, UP, 880 * MS), "go", 8)
    assert work.take() and work.tick(890 * MS) is not None and work.state == "executing"
    work.offer = Offer(chunk(PANDA, np.zeros((0, 4)), 890 * MS, refusal="no cube"), "go", 9)
    assert work.take()
    work.tick(5000 * MS)
    assert work.state == "holding" and not work.halts
    assert bench().tick(10**10) is None and not bench().halts, "where time waits nothing is late"


def test_a_policy_node_that_stumbles_halts_nothing_nor_one_that_waits_before_a_motion():
    work = bench(timeout=100 * MS)
    for now, trouble in ((5.0, "stale"), (5.15, "stale"), (5.2, ""), (5.3, "failed"), (5.45, "failed")):
        work.tick(0)
        work.policy_says(trouble, now)
    assert work.state == "executing"
    work.instruct("come")
    work.offer = Offer(chunk(PANDA, UP), "come", 8)
    assert work.take() and work.tick(0) is not None
    work.policy_says("stale", 9.0)
    assert work.state == "executing", "trouble with other words is another's"
    idle = Commanding(PANDA, 500 * MS, timeout=100 * MS)
    idle.instruct("go")
    for now in (5.0, 6.0):
        idle.policy_says("waiting: nothing received from front", now)
    assert not idle.halts


def test_an_arm_that_follows_brakes_over_a_jump_of_the_clock_and_one_that_is_elsewhere_is_not_led_back():
    for turned, braked in ((0.0, True), (1.0, False)):
        work = bench(SMOOTH, timeout=100 * MS)
        for now in range(0, 300 * MS, TICK):
            work.tick(now)
        before = work.moved.command
        follows = replace(joint_state(SMOOTH, 10**11), positions=dict(before.positions) | {
            SMOOTH.joints[0]: before.positions[SMOOTH.joints[0]] + turned})
        work.joints(follows)
        command = work.tick(10**11)
        assert (command is not None) == braked and work.state == "halted" and work.controller.current is follows
        if braked:
            steps = [abs(command.positions[n] - before.positions[n]) for n in SMOOTH.joints]
            assert 0 < max(steps) < 0.05


def test_a_guard_that_raises_holds(monkeypatch):
    work = bench()
    work.tick(0)

    def refuse(*command):
        raise ActionError("finite", "command is not finite")
    monkeypatch.setattr(work.controller.guard, "check", refuse)
    braked = [work.tick(i * TICK) for i in range(1, 30)]
    assert work.state == "halted" and work.interventions == {"finite": 1}
    assert braked[-1] == braked[-2] and work.controller.resting


def test_interventions_are_counted_by_kind():
    work = bench(values=np.tile([0.0, 0.0, -0.2, 1.0], (8, 1)))
    for i in range(40):
        work.tick(i * TICK)
    assert work.interventions["workspace"] > 0
    kinds = {"workspace z -0.2 to 0.01": "workspace", "panda_joint1 position 9 to 2.8": "position",
             "panda_joint1 step 0.3 to 0.1": "step", "v 5 to 0.6": "v"}
    assert {kind_of(said) for said in kinds} == set(kinds.values())
    assert all(kind_of(said) == kind for said, kind in kinds.items())


def test_velocities_are_differences_of_targets():
    profile = replace(PANDA, command=replace(PANDA.command, interface="velocity"))
    positions, velocities = bench(), bench(profile)
    before = joint_state(PANDA).positions
    for i in range(10):
        target, speed = positions.tick(i * TICK).positions, velocities.tick(i * TICK)
        assert speed.positions == {}
        for name in PANDA.joints:
            assert speed.velocities[name] == pytest.approx((target[name] - before[name]) * 60)
        assert all(0 < speed.velocities[name] <= 0.16 + 1e-6 for name in PANDA.gripper.joints), "0.2 m/s by the URDF"
        before = target
    assert set(velocities.rest.velocities.values()) == {0.0} and positions.rest is None
    assert bench(HUSKY, values=np.ones((8, 2))).rest is None


def test_a_velocity_leads_from_where_the_arm_and_fingers_are_measured():
    """Others may have moved them while nothing was commanded; and fingers may be measured where they cannot be."""
    profile = replace(SMOOTH, command=replace(SMOOTH.command, interface="velocity"))
    most = dict(zip(profile.joints, ArmKinematics(profile).max_velocity, strict=True)) | dict.fromkeys(
        profile.gripper.joints, 0.16)
    work = bench(profile)
    at = joint_state(profile).positions

    def swift(command):
        return max((abs(command.velocities[name]) / speed for name, speed in most.items()), default=0.0)
    for now in range(0, 4000 * MS, TICK):  # a chunk, and silence after it
        if now % (50 * MS) < TICK:
            work.joints(replace(joint_state(profile, now), positions=at))
        made = work.tick(now)
        assert made is None or swift(made) <= 1 + 1e-6
    assert work.resting
    moved = at | {profile.joints[0]: 0.4} | dict.fromkeys(profile.gripper.joints, 40.0)
    work.joints(replace(joint_state(profile, now + TICK), positions=moved))
    work.offer = Offer(chunk(profile, UP, now + TICK), "go", 2)
    assert work.take()
    assert 0 < swift(work.tick(now + TICK)) <= 1 + 1e-6


def test_a_base_is_told_to_stand_still_at_the_end():
    work = bench(HUSKY, values=np.full((8, 2), 0.2))
    work.tick(0)
    assert work.rest == TwistCommand(0.0, 0.0)


# Lockstep

class Loop:
    """A world and a policy on either side of a Lockstep, as the nodes are."""

    def __init__(self, world, policy, offset=0):
        self.world, self.policy, self.offset = world, policy, offset
        self.work = Commanding(world.profile, round(1.5 * TICK))
        self.commands = []
        execute = EXECUTE_STEPS * world.profile.action.period_ns
        self.lockstep = Lockstep(self.work, execute, lambda command, stamp: self.commands.append((command, stamp)))
        self.every = EXECUTE_STEPS * world.profile.ticks_per_step

    def tick(self, number: int, chunk_first: bool) -> None:
        """One step of the world; the chunk arrives ahead of the joint states, or after them."""
        now = self.offset + self.world.stamp
        offer = None
        if number % self.every == 0:
            answer = replace(self.policy.infer(self.world.observe()), stamp=now)
            offer = Offer(answer, self.world.scene.instruction, 0)
        joints = replace(self.world.joints(), stamp=now)
        arrivals = [lambda: self.lockstep.joints(joints), lambda: self._offered(offer)]
        for arrive in reversed(arrivals) if chunk_first else arrivals:
            arrive()
        (command, stamp), = self.commands
        assert stamp == now, "exactly one command, for this joint state"
        self.commands.clear()
        self.lockstep.joints(joints)
        assert not self.commands, "a repeated joint state is not answered again"
        self.world.step(command)

    def _offered(self, offer):
        if offer is not None:
            self.work.offer = offer
            self.lockstep.advance()

    def run(self, seed: int, task) -> int:
        """Ticks to success."""
        self.world.reset(seed, task)
        self.policy.reset()
        self.work.instruct("")
        self.work.instruct(self.world.scene.instruction)
        for number in range(round(task.time_limit * self.world.profile.control_rate)):
            self.tick(number, chunk_first=bool((number // self.every + seed) % 2))
            if self.world.progress.success:
                break
        return number + 1


@pytest.mark.parametrize("name", ["reach", "pick", "drive"])
def test_lockstep_is_the_rollout_bit_for_bit_and_forgets_the_episode_before(name):
    task = TASKS[name]
    profile = load_profile(task.robot)
    world, plain = (MockWorld(profile, task, cameras=("front",)) for _ in range(2))
    loop = Loop(world, OraclePolicy(world))
    for seed in (1, 2, 1):
        outcome = run_episode(plain, OraclePolicy(plain), seed, task)
        loop.offset += 10 * 10**9
        ticks = loop.run(seed, task)
        assert outcome.success and ticks == round(outcome.seconds * profile.control_rate)
        assert world.joints() == plain.joints()


def test_lockstep_waits_for_the_chunk_of_its_moment():
    work = Commanding(PANDA, round(1.5 * TICK))
    sent = []
    lockstep = Lockstep(work, 400 * MS, lambda command, stamp: sent.append(stamp))
    lockstep.joints(joint_state(PANDA, 1000 * MS))
    work.instruct("go")
    for stamp, words in ((900, "go"), (1000, "stay"), (1100, "go")):
        work.offer = Offer(chunk(PANDA, UP, stamp * MS), words, 0)
        lockstep.advance()
    assert sent == []
    work.offer = Offer(chunk(PANDA, UP, 1000 * MS), "go", 0)
    lockstep.advance()
    assert sent == [1000 * MS] and lockstep.waiting is None
    lockstep.advance()
    assert sent == [1000 * MS]


def test_lockstep_fails_aloud_when_the_awaited_chunk_is_refused():
    work = Commanding(PANDA, round(1.5 * TICK))
    lockstep = Lockstep(work, 400 * MS, lambda command, stamp: None)
    work.instruct("go")
    lockstep.joints(joint_state(PANDA, 0))
    work.offer = Offer(chunk(HUSKY, np.zeros((8, 2))), "go", 0)
    lockstep.advance()
    assert work.state == "failed" and work.refusals == {"spec": 1} and lockstep.waiting == 0


def test_lockstep_goes_on_with_other_words_after_a_refusal_before_the_first_motion():
    sent = []
    work = Commanding(PANDA, 500 * MS)
    lockstep = Lockstep(work, 400 * MS, lambda command, stamp: sent.append(stamp))
    work.instruct("touch the moon")
    lockstep.joints(joint_state(PANDA))
    for words, values, refusal, commands in (("touch the moon", UP[:0], "no such thing", 0), ("go", UP, "", 1)):
        work.instruct(words)
        work.offer = Offer(chunk(PANDA, values, refusal=refusal), words, 0)
        lockstep.advance()
        assert len(sent) == commands and work.controller.current.stamp == 0


def test_the_chunk_that_led_to_a_command_last():
    work = bench()
    assert work.begun is None
    for i in range(3):
        work.tick(i * TICK)
        assert work.begun is work.accepted and len(work.latency) == 1
