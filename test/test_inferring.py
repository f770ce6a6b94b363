"""The policy node's logic, without ROS: which observation is inferred, what is refused, what the status says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_samples import PANDA, joint_state

from vla_ros.errors import ObservationError
from vla_ros.nodes.inferring import JOINTS, Inferring
from vla_ros.observing import REPEATED
from vla_ros.policies.hold import HoldPolicy

MS = 1_000_000
PICTURE = np.zeros((PANDA.cameras["front"].height, PANDA.cameras["front"].width, 3), np.uint8)
PICTURE[0] = 40


class Spy(HoldPolicy):
    """A HoldPolicy that keeps what it saw, and does what the test wants instead."""

    def __init__(self, answer=None):
        super().__init__(PANDA)
        self.seen, self.resets, self.answer = [], 0, answer

    def reset(self):
        self.resets += 1

    def infer(self, observation):
        self.seen.append(observation)
        chunk = super().infer(observation)
        return self.answer(chunk) if self.answer else chunk


class Bench:
    """An Inferring with a clock that the test sets."""

    def __init__(self, answer=None, lockstep=False, barred=lambda words: "", profile=PANDA, deadline=9.0):
        self.clock, self.policy = 0, Spy(answer)
        self.work = Inferring(self.policy, profile, lambda image: image, lambda: self.clock, lockstep, barred,
                              deadline)

    def observe(self, ms, image=PICTURE, **others):
        """Parts stamped `ms`, but for those named; the clock goes along."""
        self.clock = max(self.clock, ms * MS)
        for name in PANDA.cameras:
            self.work.add(name, others.get(name, ms) * MS, image)
        self.work.add(JOINTS, others.get("joints", ms) * MS, joint_state(PANDA, others.get("joints", ms) * MS))

    def turn(self):
        job = self.work.next()
        return None if job is None else self.work.infer(job)


def test_no_inference_without_an_instruction():
    bench = Bench()
    bench.observe(1000)
    assert bench.turn() is None and bench.work.status.detail == "no instruction"
    bench.work.instruct("touch the red cube")
    assert bench.turn().stamp == 1000 * MS
    bench.work.instruct("")
    bench.observe(1100)
    assert bench.turn() is None and bench.work.status.state == "waiting"


def test_what_is_missing_is_named():
    bench = Bench()
    bench.work.instruct("go")
    bench.work.add("front", 0, PICTURE)
    assert bench.turn() is None and bench.work.status.detail == "nothing received from wrist, joints"


def test_what_is_lacking_before_there_are_words():
    bench = Bench()
    bench.work.add("front", 0, PICTURE)
    assert bench.work.lacking() == "nothing received from wrist, joints"
    bench.observe(1000)
    assert bench.work.lacking() == ""
    bench.clock += 500 * MS
    assert bench.work.lacking() == "stale: 'front' is 0.500 s old, at most 0.2 s"
    bench.observe(1600, wrist=1450)
    assert bench.work.lacking().startswith("skew: ")
    for ms, image, reason in ((1650, PICTURE // 4, "blank: "), (1660, PICTURE[:90], "size: "), (1670, PICTURE, "")):
        bench.observe(ms, image)
        assert bench.work.lacking().startswith(reason) and bool(bench.work.lacking()) == bool(reason)
    bench.observe(1700)
    bench.work.reject(JOINTS, ObservationError("joints", "joint positions are not finite"))
    assert bench.work.lacking() == "joints: joint positions are not finite"
    assert bench.work.refusals == {"joints": 1}, "asking counts nothing"


def test_in_lockstep_nothing_is_old():
    bench = Bench(lockstep=True)
    bench.observe(1000)
    bench.clock += 5000 * MS
    assert bench.work.lacking() == ""


def test_each_observation_is_inferred_once_and_the_newest_first():
    bench = Bench()
    bench.work.instruct("go")
    for ms in (1000, 1100, 1200):
        bench.observe(ms)
    assert bench.turn().stamp == 1200 * MS and bench.turn() is None
    bench.observe(1300)
    assert bench.turn().stamp == 1300 * MS
    assert bench.work.chunks == 2 and bench.work.status.state == "running"


@pytest.mark.parametrize("parts, now, reason", [
    ({}, 1300, "stale"), ({"front": 700}, 1000, "stale"), ({"front": 850}, 1000, "skew"),
    ({"joints": 700}, 1000, "stale"), ({}, 700, "future")])
def test_times_that_do_not_fit_are_refused_counted_and_named(parts, now, reason):
    bench = Bench()
    bench.work.instruct("go")
    bench.observe(1000, **parts)
    bench.clock = now * MS
    for _ in range(3):
        assert bench.turn() is None
    assert bench.work.refusals == {reason: 1} and bench.policy.seen == []
    assert bench.work.status.state == "stale" and bench.work.status.detail.startswith(reason)
    bench.clock = 1300 * MS
    bench.observe(1300)
    assert bench.turn() is not None and bench.work.status.state == "running"


def test_a_camera_has_its_own_limit_of_age_when_the_profile_says_so():
    plain = replace(PANDA, max_skew=1.0)
    slow = replace(plain, cameras=PANDA.cameras | {"wrist": replace(PANDA.cameras["wrist"], max_age=0.28)})
    for profile, now, stale in ((slow, 1270, ""), (slow, 1290, "wrist"), (plain, 1270, "wrist")):
        bench = Bench(profile=profile)
        bench.work.instruct("go")
        bench.observe(1100, wrist=1000)
        bench.clock = now * MS
        assert (bench.turn() is None) == bool(stale)
        assert not stale or bench.work.status.detail.startswith(f"stale: '{stale}'")


def test_a_source_that_repeats_its_stamp_is_stale_whatever_it_shows():
    bench = Bench()
    bench.work.instruct("go")
    bench.observe(1000)
    assert bench.turn() is not None
    for ms in range(1050, 1400, 50):
        bench.observe(ms, PICTURE + ms % 200, wrist=1000)
        assert bench.turn() is None or ms <= 1200
    assert bench.work.status.state == "stale" and "'wrist' is 0.35" in bench.work.status.detail
    assert set(bench.work.refusals) == {"stale"}


def test_a_message_that_cannot_be_read_is_counted_and_nothing_is_answered_until_a_good_one():
    bench = Bench()
    bench.work.instruct("go")
    bench.observe(1000)
    for _ in range(2):
        bench.work.reject(JOINTS, ObservationError("joints", "joint positions are not finite"))
    assert bench.turn() is None and bench.work.refusals == {"joints": 2} and bench.policy.seen == []
    assert (bench.work.status.state, bench.work.status.detail) == ("stale", "joints: joint positions are not finite")
    bench.work.add("front", 1010 * MS, PICTURE)
    assert bench.turn() is None, "a good message of another source says nothing about this one"
    bench.observe(1050)
    assert bench.turn() is not None and bench.work.status.state == "running"


@pytest.mark.parametrize("lacking", ["panda_joint3", "panda_finger_joint1"])
def test_joint_states_that_lack_a_joint_are_refused_and_never_filled_in(lacking):
    bench = Bench()
    bench.work.instruct("go")
    bench.observe(1000)
    whole = joint_state(PANDA, 1100 * MS)
    positions = {name: value for name, value in whole.positions.items() if name != lacking}
    for name in PANDA.cameras:
        bench.work.add(name, 1100 * MS, PICTURE)
    bench.clock = 1100 * MS
    bench.work.add(JOINTS, 1100 * MS, replace(whole, positions=positions))
    assert bench.turn() is None and bench.work.refusals == {"joints": 1} and bench.work.chunks == 0
    assert bench.work.status.state == "stale" and f"joint states lack {lacking}" in bench.work.status.detail


def test_a_camera_that_stops_shows_after_its_last_image_was_answered():
    bench = Bench()
    bench.work.instruct("go")
    bench.observe(1000)
    assert bench.turn() is not None
    for ms in range(1016, 1400, 16):
        bench.clock = ms * MS
        bench.work.add(JOINTS, ms * MS, joint_state(PANDA, ms * MS))
        bench.turn()
    assert bench.work.status.state == "stale" and "'front' is 0." in bench.work.status.detail


@pytest.mark.parametrize("image", [np.zeros((96, 95, 3), np.uint8), np.zeros((96, 96, 3), np.float32)])
def test_an_image_of_another_size_is_refused(image):
    bench = Bench()
    bench.work.instruct("go")
    bench.observe(1000, image=image)
    assert bench.turn() is None and bench.work.refusals == {"size": 1} and bench.policy.seen == []


@pytest.mark.parametrize("dark", PANDA.cameras)
def test_no_policy_is_asked_about_an_image_that_shows_nothing(dark):
    """Not even one that never looks at it."""
    bench = Bench()
    bench.work.instruct("touch the red cube")
    bench.clock = 1000 * MS
    for name in PANDA.cameras:
        bench.work.add(name, 1000 * MS, PICTURE // 4 if name == dark else PICTURE)
    bench.work.add(JOINTS, 1000 * MS, joint_state(PANDA, 1000 * MS))
    assert bench.turn() is None and bench.work.refusals == {"blank": 1} and bench.policy.seen == []
    assert f"camera '{dark}' shows nothing" in bench.work.status.detail
    bench.observe(1100)
    assert bench.turn().stamp == 1100 * MS


def test_a_camera_that_repeats_one_picture_while_the_joints_move_is_refused():
    bench = Bench()
    bench.work.instruct("touch the red cube")
    bench.observe(1000)
    assert bench.turn().stamp == 1000 * MS
    for ms, turned in ((1100, 0.07), (1200, 0.4), (1300, 0.6)):
        bench.clock = ms * MS
        for name in PANDA.cameras:
            bench.work.add(name, ms * MS, PICTURE)
        bench.work.add(JOINTS, ms * MS, joint_state(PANDA, ms * MS, np.array(PANDA.home) + turned))
        assert (bench.turn() is None) == (turned > REPEATED)
    assert bench.work.refusals["frozen"] == 2 and "repeats one picture" in bench.work.status.detail
    bench.observe(1400, PICTURE + 1)
    assert bench.turn().stamp == 1400 * MS


def wrong(kind):
    def answer(chunk):
        if kind == "raises":
            raise RuntimeError("out of memory")
        return {"nan": replace(chunk, values=chunk.values * np.nan),
                "shape": replace(chunk, values=chunk.values[:, :2]),
                "stamp": replace(chunk, stamp=chunk.stamp + 1), "nothing": None}[kind]
    return answer


@pytest.mark.parametrize("kind", ["raises", "nan", "shape", "stamp", "nothing"])
def test_a_policy_that_fails_gives_no_chunk_and_the_next_observation_another_chance(kind):
    bench = Bench(wrong(kind))
    bench.work.instruct("go")
    bench.observe(1000)
    assert bench.turn() is None and bench.work.status.state == "failed" and bench.work.chunks == 0
    bench.policy.answer = None
    bench.observe(1100)
    assert bench.turn() is not None and bench.work.status.state == "running"


def test_an_observation_that_the_policy_cannot_read():
    def refuse(chunk):
        raise ObservationError("dark", "nothing to be seen")
    bench = Bench(refuse)
    bench.work.instruct("go")
    bench.observe(1000)
    assert bench.turn() is None and bench.work.refusals == {"dark": 1} and bench.work.status.state == "stale"


def test_other_joint_states_beside_the_same_images_are_not_another_observation():
    bench = Bench()
    bench.work.instruct("go")
    bench.observe(1000, joints=990)
    assert bench.turn() is not None
    bench.work.add(JOINTS, 1000 * MS, joint_state(PANDA, 1000 * MS))
    assert bench.turn() is None


def test_a_refusal_stands_until_the_next_instruction():
    bench = Bench(lambda chunk: replace(chunk, values=chunk.values[:0], refusal="no such thing"))
    bench.work.instruct("touch the moon")
    bench.observe(1000)
    assert bench.turn().refusal == "no such thing" and bench.work.status.state == "refused"
    bench.observe(1100)
    assert bench.turn() is None
    bench.policy.answer = None
    assert bench.work.instruct("touch the red cube") and bench.turn() is not None


def test_new_words_reset_the_policy_and_the_same_words_do_not():
    bench = Bench()
    for ms, words in ((1000, "a"), (1100, "a"), (1200, "b"), (1300, "b")):
        bench.work.instruct(words)
        bench.observe(ms)
        assert bench.turn() is not None
    assert bench.policy.resets == 2
    bench.work.instruct("c")
    assert bench.turn().stamp == 1300 * MS, "new words are answered for the observation that is there"


@pytest.mark.parametrize("words", [("b",), ("", "a")])
def test_an_answer_that_comes_after_other_words_is_dropped(words):
    bench = Bench()
    bench.work.instruct("a")
    bench.observe(1000)
    job = bench.work.next()
    for w in words:
        bench.work.instruct(w)
    assert bench.work.infer(job) is None and bench.work.chunks == 0


def bar(words):
    return "I hurt nobody" if "cat" in words else ""


@pytest.mark.parametrize("lockstep", [False, True])
def test_barred_words_are_refused_before_the_policy_or_a_camera_is_asked(lockstep):
    bench = Bench(lockstep=lockstep, barred=bar)
    bench.clock = 500 * MS
    assert bench.work.instruct("hit the cat")
    refusal = bench.turn()
    assert refusal.refusal == "I hurt nobody" and refusal.values.shape == (0, 4) and refusal.stamp == 500 * MS
    assert refusal.spec == PANDA.action and bench.work.chunks == bench.work.declined == 1
    assert (bench.work.status.state, bench.work.status.detail) == ("refused", "I hurt nobody")
    bench.observe(1000)
    assert bench.turn() is None and bench.policy.seen == [] and bench.policy.resets == 0, "said once; it stands"
    bench.work.instruct("touch the cube")
    assert bench.turn().refusal == "" and len(bench.policy.seen) == 1


def test_a_refusal_of_barred_words_that_are_no_longer_in_force_is_dropped():
    bench = Bench(barred=bar)
    bench.work.instruct("hit the cat")
    job = bench.work.next()
    bench.work.instruct("")
    assert bench.work.infer(job) is None and bench.work.chunks == 0
    assert bench.work.status.detail == "no instruction"


def test_a_refusal_of_barred_words_comes_with_what_is_seen_for_people_to_look_at():
    bench = Bench(barred=bar)
    bench.observe(1000)
    bench.work.instruct("hit the cat")
    job = bench.work.next()
    assert job.parts["front"].item is PICTURE and bench.work.infer(job).refusal


def test_timings_of_every_stage():
    bench = Bench(lambda chunk: replace(chunk, timings={"encode": 0.1, "decode": 0.2}))
    bench.work.instruct("go")
    bench.observe(1000)
    bench.clock += 30 * MS
    bench.observe(1010, front=1010, wrist=1010, joints=1005)
    bench.clock += 20 * MS
    timings = bench.turn().timings
    assert list(timings) == ["age", "wait", "convert", "encode", "decode", "total"]
    assert timings["age"] == pytest.approx(0.02), "from the oldest image's stamp to the last part's arrival"
    assert timings["wait"] > 0 and timings["convert"] > 0
    assert timings["total"] > timings["age"] + timings["wait"] + timings["convert"]


def test_an_inference_longer_than_a_chunk_is_executed_is_counted():
    for deadline, misses in ((0.0, 2), (60.0, 0)):
        bench = Bench(deadline=deadline)
        bench.work.instruct("go")
        for ms in (1000, 1100):
            bench.observe(ms)
            assert bench.turn() is not None
        assert bench.work.misses == misses
        assert list(bench.work.stages.windows) == ["camera age", "queue", "preprocess", "inference", "total"]


def test_lockstep_wants_one_stamp_and_asks_no_clock():
    bench = Bench(lockstep=True)
    bench.work.instruct("go")
    bench.observe(1000, joints=1016)
    assert bench.turn() is None and bench.work.observed == 0
    bench.clock = 9_000_000 * MS
    bench.work.add(JOINTS, 1000 * MS, joint_state(PANDA, 1000 * MS))
    assert bench.turn().stamp == 1000 * MS and bench.work.observed == 1000 * MS


def test_lockstep_fails_where_no_other_observation_will_come():
    bench = Bench(lockstep=True)
    bench.work.instruct("go")
    bench.observe(1000, image=PICTURE[:10])
    assert bench.turn() is None and bench.work.status.state == "failed"


@pytest.mark.parametrize("lockstep", [False, True])
def test_a_message_that_is_too_late_for_any_order_is_counted_and_changes_nothing(lockstep):
    bench = Bench(lockstep=lockstep)
    bench.work.instruct("go")
    bench.observe(5000)
    bench.work.add("front", 3000 * MS, PICTURE)
    if lockstep:  # there it can only be that time began anew
        assert bench.work.refusals == {} and bench.turn() is None and "nothing received" in bench.work.status.detail
    else:
        assert bench.work.refusals == {"late": 1} and bench.turn().stamp == 5000 * MS


def test_an_inference_that_hangs_is_a_miss_before_it_ends():
    seen = []
    bench = Bench(lambda chunk: seen.append(bench.work.misses) or chunk, deadline=0.0)
    bench.work.instruct("go")
    bench.observe(1000)
    bench.turn()
    assert (seen, bench.work.misses) == ([1], 1), "counted once"
