"""OpenVlaPolicy: what its actions mean on a robot, what is said behind its folder, and what it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import openvla_samples as samples
import pytest
from core_samples import HUSKY, PANDA, observation
from openvla_samples import changed, picture
from test_imports import run_blocked
from test_policies import PolicyContract

from vla_ros.chunking import ChunkScheduler
from vla_ros.decoding import ArmDecoder, waypoints
from vla_ros.doctor.examine import cameras_read, examine
from vla_ros.doctor.finding import ERROR, OK
from vla_ros.errors import ActionError, CheckpointError, ConfigError, ObservationError, UnknownNameError, VlaError
from vla_ros.evaluation.identity import named
from vla_ros.kinematics import ArmKinematics
from vla_ros.openvla.fitting import fit
from vla_ros.openvla.options import Options, read_options
from vla_ros.openvla.statistics import choose
from vla_ros.policies import open_policy
from vla_ros.policies.openvla import typical
from vla_ros.profile import RobotProfile
from vla_ros.spec import ARM_UNITS, ActionSpec
from vla_ros.tokens import EdgeBins
from vla_ros.types import ActionChunk, Observation

SEVEN = replace(PANDA, name="seven", action=ActionSpec(
    tuple(ARM_UNITS), tuple(ARM_UNITS.values()), PANDA.base_frame, "delta", "open_is_one", 0.2, 1))
UPRIGHT = replace(SEVEN, action=replace(PANDA.action, horizon=2))  # no turns, ten steps a second
STATISTICS = choose({"bridge_orig": samples.BRIDGE})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be changed."""
    return samples.write(tmp_path_factory.mktemp("openvla") / "checkpoint", shards=2)


def seen(profile: RobotProfile, words: str = "put the red cube in the tray") -> Observation:
    return observation(profile, words, stamp=12_345)


class TestOpenVla(PolicyContract):
    reads_images = True

    @pytest.fixture(params=[("", SEVEN), ("?rotation=hold&camera=wrist&center_crop=true", PANDA)],
                    ids=["seven", "panda"])
    def case(self, request):
        return request.param

    @pytest.fixture
    def profile(self, case):
        return case[1]

    @pytest.fixture
    def policy(self, case, folder):
        return open_policy(f"{folder}{case[0]}", case[1])


def test_its_values_are_its_tokens_in_metres_radians_and_openings(folder):
    policy = open_policy(str(folder), SEVEN)
    chunk = policy.infer(seen(SEVEN))
    centres = EdgeBins().decode(32000 - chunk.tokens[0])
    wanted = [*(q01 + (c + 1) / 2 * (q99 - q01) for c, q01, q99 in
                zip(centres[:6], samples.BRIDGE["action"]["q01"], samples.BRIDGE["action"]["q99"], strict=False)),
              centres[6]]
    assert chunk.values[0] == pytest.approx(wanted) and chunk.values.shape == (1, 7)
    assert ((31744 <= chunk.tokens) & (chunk.tokens < 32000)).all() and policy.name == "openvla:bridge_orig"


def test_words_and_image_reach_the_model(folder):
    policy = open_policy(f"{folder}?camera=wrist", SEVEN)
    first = seen(SEVEN)
    other = replace(first, images=first.images | {"wrist": picture(7, 128, 128)})
    assert policy.cameras == ("wrist",)
    assert policy.infer(first).confidence != policy.infer(seen(SEVEN, "pick up the cup")).confidence
    assert policy.infer(first).confidence != policy.infer(other).confidence
    cropped = open_policy(f"{folder}?camera=wrist&center_crop=true", SEVEN)
    assert cropped.infer(first).confidence != policy.infer(first).confidence


# What an action means on a robot

def test_an_action_in_parts_leads_where_the_whole_leads():
    action = np.array([0.02, -0.03, 0.01, 0.05, -0.04, 0.15, 1.0])
    whole, parts = fit(STATISTICS, Options(), SEVEN), fit(STATISTICS, Options(), replace(
        SEVEN, action=replace(SEVEN.action, period=0.1)))
    assert (whole.parts, parts.parts, parts.spec.period, parts.spec.horizon) == (1, 2, 0.1, 2)
    home = ArmKinematics(SEVEN).forward(np.array(SEVEN.home))

    def end(fitting):
        way = waypoints(ActionChunk(fitting.steps(action), fitting.spec, stamp=0), home)
        return way.positions[-1], way.rotations[-1], way.gripper
    for one, other in zip(end(whole)[:2], end(parts)[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert end(parts)[2].tolist() == [1.0, 1.0]


def test_rotation_is_left_out_only_when_told(folder):
    with pytest.raises(ActionError, match="rotation=hold leaves the model's turns out"):
        open_policy(f"{folder}", UPRIGHT)
    held = open_policy(f"{folder}?rotation=hold", UPRIGHT)
    assert held.spec.names == ("dx", "dy", "dz", "gripper") and held.spec.horizon == 2
    chunk, whole = held.infer(seen(UPRIGHT)), open_policy(str(folder), SEVEN).infer(seen(SEVEN))
    np.testing.assert_allclose(chunk.values[:, :3].sum(0), whole.values[0, :3])
    np.testing.assert_array_equal(chunk.values[:, 3], [whole.values[0, 6]] * 2)


@pytest.mark.parametrize("period,parts", [(0.2, 1), (0.1, 2), (0.05, 4), (8 / 60, 1), (0.4, 1)])
def test_only_whole_fractions_of_the_period_are_made(period, parts):
    profile = replace(SEVEN, action=replace(SEVEN.action, period=period))
    made = fit(STATISTICS, Options(), profile)
    assert made.parts == made.spec.horizon == parts
    assert made.spec.period == (period if parts > 1 else 0.2)


@pytest.mark.parametrize("profile", [replace(SEVEN, action=replace(SEVEN.action, period=8 / 60)),
                                     replace(SEVEN, action=replace(SEVEN.action, frame="tool")), HUSKY],
                         ids=["period", "frame", "base"])
def test_a_robot_that_means_something_else_is_refused(folder, profile):
    with pytest.raises(ActionError, match="disagree on what an action means"):
        open_policy(str(folder), profile)


def test_the_period_of_unknown_data_is_to_be_said(folder, tmp_path):
    mine = changed(shutil.copytree(folder, tmp_path / "mine"), norm_stats={"mine": samples.BRIDGE})
    with pytest.raises(ConfigError, match="period=SECONDS"):
        open_policy(str(mine), SEVEN)
    assert open_policy(f"{mine}?period=0.2", SEVEN).spec.period == 0.2


@pytest.mark.parametrize("actions,why", [
    ({"q01": [-0.9] * 7, "q99": [0.9] * 7}, "span 1.80 in one step: no metres"),
    ({"q01": [0.0] * 14, "q99": [0.1] * 14}, "have 14 numbers, expected 7: dx, dy, dz")])
def test_actions_that_are_no_steps_of_a_hand(folder, tmp_path, actions, why):
    mine = changed(shutil.copytree(folder, tmp_path / "mine"), norm_stats={"mine": {"action": actions}})
    with pytest.raises(CheckpointError, match=why):
        open_policy(f"{mine}?period=0.2", SEVEN)


def test_a_step_moves_the_hand_of_an_arm(folder):
    """Through scheduler and decoder: the hand goes where the chunk says."""
    policy, view = open_policy(str(folder), SEVEN), seen(SEVEN)
    chunk, kinematics = policy.infer(view), ArmKinematics(SEVEN)
    scheduler, decoder = ChunkScheduler(SEVEN.action), ArmDecoder(SEVEN, kinematics)
    scheduler.accept(chunk)
    for tick in range(12):
        step = scheduler.at(chunk.stamp + tick * SEVEN.control_period_ns)
        command = decoder.decode(step, lambda _: view.joints, view.joints, [])
    reached = kinematics.forward(np.array([command.positions[joint] for joint in SEVEN.joints])).position
    moved = reached - view.ee_pose.position
    assert moved == pytest.approx(chunk.values[0, :3] * 11 / 12, abs=0.004)


# What is refused

@pytest.mark.parametrize("words,why", [("", "empty"), (" ?! ", "empty"), ("go " * 2000, "too long")])
def test_words_that_cannot_be_asked(folder, words, why):
    chunk = open_policy(str(folder), SEVEN).infer(seen(SEVEN, words))
    assert why in chunk.refusal and chunk.values.shape == (0, 7)


def test_a_word_that_is_no_action_is_refused_by_name(tmp_path):
    """The reference takes any such word for the largest motion."""
    policy = open_policy(str(samples.write(tmp_path / "c", gain=0.0)), SEVEN)
    chunk = policy.infer(seen(SEVEN))
    assert "the model says no action: " in chunk.refusal and "in the place of dx" in chunk.refusal
    assert len(chunk.values) == 0 and chunk.timings["act"] > 0


def test_weights_that_are_not_finite_do_not_move_anything(tmp_path):
    from safetensors.torch import load_file, save_file
    folder = samples.write(tmp_path / "c")
    tensors = load_file(folder / "model.safetensors")
    tensors["projector.fc2.bias"][:] = np.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="weights are not finite: projector.fc2.bias"):
        open_policy(str(folder), SEVEN)
    assert typical(np.array([0.5, np.nan])) < 1e-10 and typical(np.array([0.25, 1.0])) == pytest.approx(0.5)


@pytest.mark.parametrize("image,reason", [
    (None, "size"), (np.zeros((8, 8, 3), np.uint8), "blank"), (np.zeros((8, 8, 4), np.uint8), "size"),
    (np.zeros((8, 8), np.uint8), "size"), (np.linspace(0, 1, 192).reshape(8, 8, 3), "size")],
    ids=["none", "blank", "alpha", "grey", "floats"])
def test_images_that_cannot_be_read(folder, image, reason):
    view = seen(SEVEN)
    images = {name: shown for name, shown in view.images.items() if name != "front"} | (
        {} if image is None else {"front": image})
    with pytest.raises(ObservationError, match="front") as error:
        open_policy(str(folder), SEVEN).infer(replace(view, images=images))
    assert error.value.reason == reason


# What is said behind the folder

def test_options_by_name():
    assert read_options("") == Options()
    said = "unnorm_key=a%20b&camera=wrist&center_crop=true&period=0.5&dtype=float32&device=cpu&rotation=hold"
    assert read_options(said) == Options("a b", "wrist", True, 0.5, "float32", "cpu", "hold")


@pytest.mark.parametrize("query,why", [
    ("unormkey=x", "unknown option of an OpenVLA checkpoint 'unormkey'.*did you mean 'unnorm_key'"),
    ("center_crop=yes", "unknown value of center_crop 'yes'.*false, true"),
    ("dtype=int3", "bfloat16, float32, int8, nf4, stored"),
    ("period=fast", "period 'fast' must be seconds"), ("period=nan", "must be"), ("period=0", "must be seconds"),
    ("rotation=off", "follow, hold"), ("wrist", "must read NAME=VALUE"), ("device=abacus", "device 'abacus' cannot"),
    ("camera=left", "unknown camera of robot 'seven' 'left'.*front, wrist"),
    ("unnorm_key=bridge", "unknown unnorm_key 'bridge'.*bridge_orig")])
def test_options_that_cannot_be(folder, query, why):
    with pytest.raises(VlaError, match=why):
        open_policy(f"{folder}?{query}", SEVEN)


def test_options_are_for_these_checkpoints_alone(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text(json.dumps({"model_type": "vla_ros"}))
    with pytest.raises(ConfigError, match="takes no options"):
        open_policy(f"{tmp_path / 'other'}?camera=wrist", PANDA)
    with pytest.raises(UnknownNameError, match="unknown policy"):
        open_policy("nowhere?camera=wrist", PANDA)


def test_a_folder_with_a_question_mark_in_its_name_is_a_folder(folder, tmp_path):
    odd = shutil.copytree(folder, tmp_path / "what?")
    assert open_policy(str(odd), SEVEN).name == open_policy(f"{odd}?dtype=float32", SEVEN).name == "openvla:bridge_orig"


def test_scores_name_the_checkpoint_and_how_it_was_run(folder):
    plain, held = named(str(folder), "panda"), named(f"{folder}?rotation=hold", "panda")
    assert plain.startswith("checkpoint@") and held == plain.replace("checkpoint@", "checkpoint?rotation=hold@")


# Before it moves

def test_the_doctor_knows_these_checkpoints(folder, tmp_path):
    found = examine(SEVEN, str(folder))
    assert {f.check for f in found if f.level != OK} == {"trained on", "horizon"}
    assert {"statistics", "cameras", "weights", "conventions"} <= {f.check for f in found}
    assert [f.what for f in found if f.check == "cameras"] == ["'front' is read, not wrist"]
    wrong = [f.what for f in examine(PANDA, str(folder), weights=False) if f.level == ERROR]
    assert any("droll, dpitch, dyaw" in what for what in wrong) and not any("weights" in what for what in wrong)
    assert cameras_read(SEVEN, f"{folder}?camera=wrist") == ("wrist",)
    two = changed(shutil.copytree(folder, tmp_path / "two"), norm_stats={"a": samples.BRIDGE, "b": samples.BRIDGE})
    wrong = [f for f in examine(SEVEN, str(two)) if f.level == ERROR]
    assert [f.check for f in wrong] == ["checkpoint"] and "available: a, b" in wrong[0].what
    (two / "model-00001-of-00002.safetensors").unlink()
    wrong = [f for f in examine(SEVEN, f"{two}?unnorm_key=a&period=0.2") if f.level == ERROR]
    assert wrong[-1].check == "weights" and "lacks model-00001" in wrong[-1].what


@pytest.mark.parametrize("still, level", [((3, 5), "warning"), ((0, 1, 2), "error")])
def test_the_doctor_sees_what_a_data_set_never_moved(folder, tmp_path, still, level):
    action = samples.BRIDGE["action"]
    high = [action["q01"][i] + 1e-9 if i in still else value for i, value in enumerate(action["q99"])]
    mine = changed(shutil.copytree(folder, tmp_path / "still"),
                   norm_stats={"mine": samples.BRIDGE | {"action": action | {"q99": high}}})
    said = examine(SEVEN, f"{mine}?period=0.2", weights=False)
    found, = [f for f in said if f.check == "statistics" and f.level != OK]
    names = ", ".join(("dx", "dy", "dz", "droll", "dpitch", "dyaw")[i] for i in still)
    assert found.level == level and f"q01 all but reaches q99 of {names}" in found.what


def test_what_does_not_fit_the_robot_is_said_before_the_weights_are_read(folder, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    for file in mine.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ActionError, match="disagree"):
        open_policy(str(mine), UPRIGHT)
    run_blocked(("torch", "transformers"), f"""
from vla_ros.doctor.examine import cameras_read, examine
from vla_ros.profile import load_profile
assert examine(load_profile("panda"), {str(mine) + "?rotation=hold"!r}, weights=False)""")
