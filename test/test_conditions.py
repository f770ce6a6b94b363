"""Conditions: the same from the same seed, changing what they say and nothing else, and scored as they say."""

from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, PANDA
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.evaluation.conditions import CONDITIONS, choose, fitting, make_setting
from vla_ros.evaluation.evaluate import episodes
from vla_ros.evaluation.rollout import MOVED, WATCHED, run_setting
from vla_ros.evaluation.setting import DONE, REFUSED
from vla_ros.policies.hold import HoldPolicy
from vla_ros.sim.appearance import PLAIN, SHIFT, TURN
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import TASKS
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS, has_held_out
from vla_ros.sim.world import CONTAINERS
from vla_ros.types import ActionChunk

TASK = st.sampled_from(sorted(TASKS))
SEED = st.integers(0, 5000)
THINKING = 0.02  # [s]


def setting(condition, task="reach", seed=0, **options):
    return make_setting(task, seed, condition, **options)


CHANGES = {  # what a condition sets; scenes may stay as they were by chance
    "plain": set(), "wordings": {"scene"}, "pairs": {"scene"}, "distractors": {"scene"}, "camera": {"appearance"},
    "light": {"appearance"}, "latency": {"latency"}, "absent": {"scene", "right"}, "impossible": {"scene", "right"},
    "changed": {"change"}, "sequence": {"scene", "change"}, "shuffled": {"scene"}, "frozen": {"pictures", "right"},
    "black": {"pictures", "right"}}


@pytest.mark.parametrize("condition", CONDITIONS)
@settings(max_examples=25)
@given(TASK, SEED)
def test_a_setting_follows_from_task_seed_and_condition(condition, task, seed):
    able = task if CONDITIONS[condition].fits(task) else "reach"
    made, plain = setting(condition, able, seed), setting("plain", able, seed)
    assert made == setting(condition, able, seed) and made.scene.seed == seed
    changed = {name for name in vars(made) if getattr(made, name) != getattr(plain, name)}
    assert changed | {"scene"} == CHANGES[condition.split("-")[0]] | {"scene"}


def test_conditions_draw_apart():
    """The same seed shifts the camera otherwise than it turns on the light, and the next one otherwise again."""
    looks = [setting("camera", seed=s).appearance for s in range(20)]
    assert len(set(looks)) == 20
    assert setting("light").appearance != setting("camera").appearance


@given(TASK, SEED)
def test_cameras_move_by_no_more_than_is_said(task, seed):
    look = setting("camera", task, seed).appearance
    assert 0 < np.linalg.norm(look.shift) <= SHIFT and 0 < np.linalg.norm(look.turn) <= TURN
    assert look == replace(PLAIN, shift=look.shift, turn=look.turn)


@given(st.sampled_from(["reach", "push", "pick"]), SEED)
def test_the_target_is_a_pair_that_training_never_showed_and_names_stay_unique(task, seed):
    plain, scene = setting("plain", task, seed).scene, setting("pairs", task, seed).scene
    target = scene.objects[scene.target]
    assert (target.shape, target.colour) in HELD_OUT_PAIRS and has_held_out(scene.objects)
    assert target.words in scene.instruction
    assert len({o.words for o in scene.objects}) == len(scene.objects)
    assert [replace(o, colour="") for o in scene.objects] == [replace(o, colour="") for o in plain.objects]


def test_every_shape_that_can_be_a_target_has_a_pair_held_out():
    shapes = {shape for shape, _ in HELD_OUT_PAIRS}
    seen = {s.objects[s.target].shape for s in (setting("plain", "reach", i).scene for i in range(60))}
    assert seen <= shapes and len(set(HELD_OUT_PAIRS)) == 6


@given(TASK.filter(CONDITIONS["distractors"].fits), SEED)
def test_distractors_are_many_and_like_the_target(task, seed):
    scene = setting("distractors", task, seed).scene
    target, words = scene.objects[scene.target], [o.words for o in scene.objects]
    assert len(scene.objects) >= 4 and len(set(words)) == len(words) and target.words in scene.instruction
    alike = [o for o in scene.objects if o.shape == target.shape or o.colour == target.colour]
    others = {o.shape for o in scene.objects if o not in alike}
    assert all((shape, target.colour) in {(o.shape, o.colour) for o in alike} for shape in others - set(CONTAINERS))


@given(TASK.filter(CONDITIONS["absent"].fits), SEED)
def test_what_is_absent_is_not_in_the_scene(task, seed):
    plain, made = setting("plain", task, seed), setting("absent", task, seed)
    assert made.scene.objects == plain.scene.objects and made.right == REFUSED
    there = [o.words for i, o in enumerate(made.scene.objects) if i != made.scene.reference]
    assert not any(words in made.scene.instruction for words in there)


@given(TASK.filter(CONDITIONS["shuffled"].fits), SEED)
def test_shuffled_words_are_of_something_else_and_the_goal_stays(task, seed):
    plain, made = setting("plain", task, seed), setting("shuffled", task, seed)
    assert replace(made.scene, instruction="") == replace(plain.scene, instruction="")
    assert made.scene.instruction != plain.scene.instruction and made.right == DONE


@given(TASK.filter(CONDITIONS["changed"].fits), SEED)
def test_words_change_to_another_object_of_the_same_scene(task, seed):
    made = setting("changed", task, seed)
    change = made.change
    assert change.scene.objects == made.scene.objects and change.scene.seed == seed
    assert change.scene.objects[change.scene.target].words in change.scene.instruction
    assert change.scene.target != made.scene.target or len(made.scene.objects) < 3


def test_wordings_come_from_the_templates_that_are_given():
    given_ = {"reach": ("lay a hand upon the {o}",), "push": ("send the {o} {d}",)}
    said = setting("wordings", templates=given_).scene
    assert said.instruction == f"lay a hand upon the {said.objects[said.target].words}"
    assert fitting("wordings", ["push", "pick", "reach"], given_) == ["push", "reach"]
    assert setting("plain", templates=given_).scene.instruction != said.instruction


def test_conditions_are_chosen_by_name():
    assert choose("black, plain", ["reach"]) == ["plain", "black"]
    assert choose("all", ["reach"]) == list(CONDITIONS)
    assert "pairs" not in choose("all", ["drive"])
    with pytest.raises(ConfigError, match="'pairs' makes no sense in drive"):
        choose("plain,pairs", ["drive"])
    with pytest.raises(UnknownNameError, match="did you mean 'camera'"):
        choose("camrea", ["reach"])


@given(st.integers(1, 40), st.integers(0, 100))
def test_plain_counts_by_task_and_other_conditions_in_all(count, first):
    todo = episodes(["reach", "push", "drive"], count, first, ["plain", "light", "pairs"])
    assert len({e.key for e in todo}) == len(todo) == 5 * count
    by = {name: [e for e in todo if e.condition == name] for name in ("plain", "light", "pairs")}
    assert [len(by[name]) for name in by] == [3 * count, count, count]
    assert {e.seed for e in todo} == set(range(first, first + count))
    spread = [sum(e.task == task for e in by["light"]) for task in ("reach", "push", "drive")]
    assert max(spread) - min(spread) <= 1 and {e.task for e in by["pairs"]} <= {"reach", "push"}


class Refusing(HoldPolicy):
    """Refuses the question of number `when`, counted from 0."""

    def __init__(self, profile, when=0, confidence=0.9):
        super().__init__(profile)
        self.when, self.confidence = when, confidence

    def reset(self):
        self.asked = 0

    def infer(self, observation):
        self.asked += 1
        if self.asked <= self.when:
            return replace(super().infer(observation), confidence=0.3)
        return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp, refusal="no",
                           confidence=self.confidence)


class Creeping(HoldPolicy):
    """Keeps what it was shown, and moves too little to tell by a picture that something is wrong."""

    def reset(self):
        self.seen = []

    def infer(self, observation):
        self.seen.append(observation)
        moving = np.zeros((self.spec.horizon, self.spec.dim))
        moving[:, 0] = 0.001
        return ActionChunk(moving, self.spec, observation.stamp)


@pytest.fixture(scope="module")
def arm():
    return MockWorld(PANDA, cameras=("front",))


@pytest.mark.parametrize("condition,policy,ending,right", [
    ("plain", Refusing, "refused", False), ("plain", OraclePolicy, "success", True),
    ("plain", HoldPolicy, "time", False),
    ("absent", Refusing, "refused", True), ("absent", OraclePolicy, "answered", False),
    ("absent", HoldPolicy, "answered", False), ("impossible", Refusing, "refused", True),
    ("frozen", Refusing, "refused", True), ("frozen", HoldPolicy, "still", True),
    ("frozen", OraclePolicy, "fault", True), ("frozen", Creeping, "moved", False),
    ("black", HoldPolicy, "still", True), ("black", OraclePolicy, "fault", True),
    ("changed", OraclePolicy, "success", True), ("changed", HoldPolicy, "time", False),
    ("sequence", OraclePolicy, "success", True), ("sequence", HoldPolicy, "time", False),
    ("shuffled", OraclePolicy, "success", True)])
def test_what_counts_as_right(arm, condition, policy, ending, right):
    made = run_setting(arm, policy(arm if policy is OraclePolicy else PANDA), setting(condition))
    assert (made.ending, made.success) == (ending, right)
    assert made.task == "reach" and made.confidence is not None


def test_the_confidence_is_that_of_the_first_answer(arm):
    assert run_setting(arm, Refusing(PANDA), setting("plain")).confidence == 0.9
    late = run_setting(arm, Refusing(PANDA, when=1), setting("plain"))
    assert (late.confidence, late.ending, late.seconds) == (0.3, "refused", pytest.approx(0.4))


def test_without_sight_the_distance_is_what_it_moved(arm):
    oracle = run_setting(arm, OraclePolicy(arm), setting("black"))
    assert oracle.distance > MOVED and oracle.seconds < WATCHED and "repeats one picture" in oracle.detail
    creeping = run_setting(arm, Creeping(PANDA), setting("black"))
    assert creeping.distance > MOVED and creeping.seconds == pytest.approx(WATCHED)
    assert run_setting(arm, HoldPolicy(PANDA), setting("black")).distance < 1e-4
    base = MockWorld(HUSKY, cameras=("front",))
    assert run_setting(base, OraclePolicy(base), setting("black", "drive")).distance > MOVED


def test_black_and_frozen_pictures_have_true_stamps_and_joints(arm):
    for condition in ("black", "frozen"):
        policy = Creeping(PANDA)
        run_setting(arm, policy, setting(condition))
        pictures = [o.images["front"] for o in policy.seen]
        assert len(pictures) > 3 and all((p == pictures[0]).all() for p in pictures)
        assert (pictures[0].any()) == (condition == "frozen")
        stamps = [o.stamp for o in policy.seen]
        assert stamps == sorted(set(stamps)) and policy.seen[0].joints != policy.seen[-1].joints


def test_changed_words_reach_the_policy_at_once_and_the_score_begins_anew(arm):
    made, policy = setting("changed"), Creeping(PANDA)
    run_setting(arm, policy, made)
    words = {o.stamp / 1e9: o.instruction for o in policy.seen}
    assert words[made.change.after] == made.change.scene.instruction
    assert all((said == made.scene.instruction) == (at < made.change.after) for at, said in words.items())
    assert arm.scene == made.change.scene and arm.task is made.change.task


def test_success_before_the_words_change_does_not_count(arm):
    """A layout whose goal the oracle reaches before: the episode goes on until the second goal."""
    made = setting("changed", seed=3)
    early = replace(made, change=replace(made.change, after=6.0))
    ended = run_setting(arm, OraclePolicy(arm), early)
    assert ended.success and ended.seconds > 6.0 and ended.instruction == early.change.scene.instruction


@pytest.mark.parametrize("seed", range(4))
def test_of_two_things_told_at_once_the_second_is_told_when_the_first_is_done(arm, seed):
    made, oracle, told = setting("sequence", seed=seed), OraclePolicy(arm), []

    def follow(world, tick):
        if not told or told[-1][0] != world.scene.instruction:
            told.append((world.scene.instruction, world.stamp / 1e9))

    ended = run_setting(arm, oracle, made, on_step=follow)
    assert [words for words, _ in told] == [made.scene.instruction, made.change.scene.instruction]
    assert told[1][1] > 0.3 and ended.success and ended.seconds > told[1][1]
    assert not any("then" in words for words, _ in told)


@pytest.mark.parametrize("milliseconds", [0, 100, 200, 400])
def test_answers_come_late_by_thinking_and_latency(arm, milliseconds):
    """Until the first arrives nothing moves; the next question waits for it, and for the steps in force."""
    policy = Creeping(PANDA)
    world, moves = arm, []
    made = setting(f"latency-{milliseconds}")
    run_setting(world, policy, made, thinking=THINKING, on_step=lambda w, tick: moves.append((w.stamp, tick.step)))
    late = milliseconds / 1e3 + THINKING
    begun = next(stamp for stamp, step in moves if step is not None) / 1e9
    assert late <= begun < late + 1.01 / PANDA.control_rate
    first = next(step for _, step in moves if step is not None)
    assert first.index == int((begun + 1e-9) / 0.1)  # the steps of the time before have dropped out
    gaps = np.diff([o.stamp / 1e9 for o in policy.seen])
    assert gaps == pytest.approx(max(0.4, np.ceil(late * 60) / 60), abs=1.01 / 60)


def test_a_fixed_thinking_time_repeats_exactly(arm):
    runs = [run_setting(arm, OraclePolicy(arm), setting("latency-200", seed=4), thinking=THINKING) for _ in range(2)]
    assert runs[0] == runs[1] and runs[0].success
