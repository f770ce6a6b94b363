"""What is read of a LeRobot checkpoint before LeRobot is started: it fits the file and the robot, and runs no code."""

import pytest
from core_samples import HUSKY, PANDA
from lerobot_folder import FRONT, SPEC, STATE, STEPS, wrote

from vla_ros.doctor.examine import examine
from vla_ros.errors import ActionError, CheckpointError, ConfigError, UnknownNameError
from vla_ros.lerobot.fitting import plan
from vla_ros.lerobot.options import PYTHON, read_options, require_python
from vla_ros.policies import checkpoint_folder, open_policy


def planned(folder, profile=PANDA, options=""):
    return plan(read_options(f"lerobot:{folder}{options}"), profile)


def inputs(side=128, felt=4, **more) -> dict:
    return {FRONT: {"type": "VISUAL", "shape": [3, side, side]}, STATE: {"type": "STATE", "shape": [felt]}} | more


def test_a_folder_that_fits_is_read_without_lerobot(tmp_path):
    found, described = planned(wrote(tmp_path))
    assert (found.kind, found.dim, found.horizon, found.history) == ("act", 4, 8, 1)
    assert described.cameras == ("front",) and described.spec.names == ("dx", "dy", "dz", "gripper")


WRIST = {"observation.images.wrist": {"type": "VISUAL", "shape": [3, 128, 128]}}


@pytest.mark.parametrize("changes, words", [
    ({"type": "tdmpc"}, "unknown type of LeRobot's policies in config.json 'tdmpc'.*act, diffusion"),
    ({"use_peft": True}, "adapters only"), ({"chunk_size": 0}, "chunk_size of config.json must be a whole number"),
    ({"output_features": {}}, "output_features must be one vector"),
    ({"input_features": {STATE: {"type": "STATE", "shape": [4]}}}, "must have images"),
    ({"input_features": {FRONT: {"type": "VISUAL"}}}, "must map names to type and shape"),
    ({"chunk_size": 50}, "action.horizon is 8, the checkpoint's 50"),
    ({"output_features": {"action": {"type": "ACTION", "shape": [7]}}}, "number of action names is 4, .* 7"),
    ({"input_features": inputs(side=96)}, "was 96x96 in training, camera 'front' is 128x128"),
    ({"input_features": inputs(felt=6)}, "state observation.state has 4 numbers, the checkpoint reads 6"),
    ({"input_features": inputs(**WRIST)}, "images lack observation.images.wrist, which act cannot do without"),
    ({"input_features": {"observation.images.top": {"type": "VISUAL", "shape": [3, 128, 128]}}},
     "reads no 'observation.images.front', it reads observation.images.top"),
    ({"input_features": {**inputs(), STATE: {"type": "STATE", "shape": [4]},
                         "observation.environment_state": {"type": "ENV", "shape": [11]}}},
     "state observation.environment_state has 0 numbers, the checkpoint reads 11"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_what_does_not_fit_is_said(tmp_path, changes, words):
    with pytest.raises((CheckpointError, ConfigError, UnknownNameError), match=words):
        planned(wrote(tmp_path, **changes))


@pytest.mark.parametrize("step, words", [
    ({"class": "their.module.Step", "config": {}}, "'their.module.Step' is code of somebody's"),
    ({"registry_name": "device_processor", "class": "their.module.Step"}, "code of somebody's"),
    ({"registry_name": "normalizer_processor", "state_file": "../a.safetensors"}, "must be a .safetensors beside"),
    ({"registry_name": "normalizer_processor", "state_file": "state.bin"}, "must be a .safetensors beside"),
], ids=str)
def test_a_step_that_is_code_or_lies_elsewhere_is_refused(tmp_path, step, words):
    with pytest.raises(CheckpointError, match=words):
        planned(wrote(tmp_path, steps={"steps": [*STEPS["steps"], step]}))


def test_pickled_weights_are_no_weights(tmp_path):
    (wrote(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="lacks model.safetensors; pytorch_model.bin is a pickle"):
        planned(tmp_path)


def test_a_checkpoint_of_before_processors_says_how_they_are_made(tmp_path):
    (wrote(tmp_path) / "policy_preprocessor.json").unlink()
    with pytest.raises(CheckpointError, match="LeRobot before 0.4 had no processors"):
        planned(tmp_path)


def test_smolvla_scales_images_itself_and_does_without_a_camera(tmp_path):
    found, described = planned(wrote(tmp_path, type="smolvla", input_features=inputs(side=256, **WRIST)))
    assert set(found.images) - set(described.description.images) == {"observation.images.wrist"}


def test_another_robot_is_refused_by_its_actions(tmp_path):
    with pytest.raises(UnknownNameError, match="part of a state of robot 'husky'"):
        planned(wrote(tmp_path), HUSKY)
    with pytest.raises(ActionError, match="period: policy 0.2, robot 0.1"):
        planned(wrote(tmp_path, SPEC.replace("period: 0.1", "period: 0.2")))


@pytest.mark.parametrize("state, count", [("[joints]", 7), ("[position, axis_angle, half_gap, -half_gap]", 8)])
def test_parts_of_a_state_are_counted(tmp_path, state, count):
    planned(wrote(tmp_path, SPEC.replace("[position, gap]", state), input_features=inputs(felt=count)))


def test_a_file_elsewhere_may_say_what_the_numbers_mean(tmp_path):
    (wrote(tmp_path / "checkpoint") / "vla.yaml").rename(tmp_path / "other.yaml")
    with pytest.raises(ConfigError, match="does not say what its actions mean: write .*vla.yaml"):
        planned(tmp_path / "checkpoint")
    assert planned(tmp_path / "checkpoint", options=f"?spec={tmp_path}/other.yaml")[1].cameras == ("front",)


@pytest.mark.parametrize("source, error, words", [
    ("lerobot:", ConfigError, "names no folder"), ("lerobot:x?pyton=y", UnknownNameError, "did you mean 'python'"),
    ("lerobot:x?python", ConfigError, "must read NAME=VALUE"), ("lerobot:x?start=0", ConfigError, "start '0' must be"),
    ("lerobot:x?deadline=soon", ConfigError, "deadline 'soon' must be seconds")])
def test_options_are_read_strictly(source, error, words):
    with pytest.raises(error, match=words):
        read_options(source)


def test_without_an_environment_of_lerobot_it_is_said_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.delenv(PYTHON, raising=False)
    with pytest.raises(ConfigError, match="an environment of its own: python3 -m venv"):
        open_policy(f"lerobot:{wrote(tmp_path)}", PANDA)
    with pytest.raises(ConfigError, match="no Python at '/nowhere/python'"):
        open_policy(f"lerobot:{tmp_path}?python=/nowhere/python", PANDA)
    monkeypatch.setenv(PYTHON, "python3")
    assert require_python(read_options("lerobot:x")).endswith("python3")


def test_the_doctor_reads_it_without_lerobot(tmp_path):
    policy = f"lerobot:{wrote(tmp_path)}"
    found = {f.check: f for f in examine(PANDA, policy, weights=False)}
    assert found["conventions"].level == "ok" and "reads no words" in found["words"].what
    assert "camera 'front'" in found["inputs"].what and found["inputs"].level == "ok"
    wrote(tmp_path, chunk_size=9)
    assert [f.what for f in examine(PANDA, policy, weights=False) if f.level == "error"] == [
        f"{tmp_path}/vla.yaml does not fit {tmp_path}: action.horizon is 8, the checkpoint's 9"]


def test_reports_name_its_folder(tmp_path):
    assert checkpoint_folder(f"lerobot:{tmp_path}?python=/some/where/python", PANDA) == tmp_path
