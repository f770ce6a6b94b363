"""vla doctor without a running system: each check finds what was broken on purpose, and nothing else is said."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, ROBOTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cli import answer, assert_one_line
from test_imports import run_blocked

from vla_ros.commands import doctor as command
from vla_ros.doctor import actions, checkpoint, inputs
from vla_ros.doctor.actions import Acting
from vla_ros.doctor.checkpoint import Checkpoint
from vla_ros.doctor.examine import examine, objections
from vla_ros.doctor.finding import ERROR, LEVELS, OK, WARNING, Finding
from vla_ros.errors import CheckpointError, UnknownNameError
from vla_ros.paths import shipped_checkpoint
from vla_ros.profile import Camera

NAN, INF = float("nan"), float("inf")
GAP = json.loads((shipped_checkpoint("panda") / "config.json").read_text())["proprio_high"][3]  # [m] of the fingers


def only(findings, level: str, *words: str) -> list[Finding]:
    """All findings are of this level, and the first says these words."""
    found = list(findings)
    assert found and {finding.level for finding in found} == {level}, found
    for word in words:
        assert word in found[0].what, found[0]
    assert all(bool(f.why) == bool(f.mend) == (f.level != OK) for f in found)
    return found


# What ships

@pytest.mark.parametrize("name", ROBOTS)
def test_a_shipped_robot_with_its_shipped_checkpoint_gives_no_errors(name):
    found = examine(ROBOTS[name], "native", weights=False)
    assert [f for f in found if f.level != OK] == [] and len(found) > 15
    assert {f.level for f in found} <= set(LEVELS)


@pytest.mark.parametrize("name", ROBOTS)
def test_nothing_is_objected_to_what_ships(name):
    assert objections(ROBOTS[name], "native", 4) == objections(ROBOTS[name], "hold", 4) == ""
    assert objections(ROBOTS[name], "", 4) == ""


def test_objections_are_one_line_and_need_no_torch(spoilt):
    broken = spoilt(action_high=[0.03, 0.03, 0.03, 0.08], camera="left").folder
    said = objections(PANDA, str(broken), 4)
    assert "gripper: the gripper's statistics run from 0 to 0.08" in said and "'left'" in said and "\n" not in said
    assert "unknown policy 'hodl'" in objections(PANDA, "hodl", 4)
    run_blocked(("torch", "transformers"), f"""
from vla_ros.doctor.examine import objections
from vla_ros.profile import load_profile
assert "gripper" in objections(load_profile("panda"), {str(broken)!r}, 4)
""")


def test_hold_is_examined_without_a_checkpoint():
    found = examine(PANDA, "hold")
    assert {f.level for f in found} == {OK} and "horizon" in {f.check for f in found}


def test_only_the_weights_need_torch():
    run_blocked(("torch", "transformers", "rclpy", "vla_ros.msg", "pybullet"), """
from vla_ros.doctor.examine import examine
from vla_ros.profile import load_profile
found = examine(load_profile("panda"), "native")
assert [f.check for f in found if f.level != "ok"] == ["weights"], found
assert "blocked: torch" in found[-1].what and found[-1].level == "warning"
""")


# A checkpoint's files

@pytest.fixture
def spoilt(tmp_path):
    """A function: the shipped checkpoint of a robot, without weights, with other settings (None: without them)."""
    def spoil(profile=PANDA, spec: dict | None = None, **changes) -> Checkpoint:
        folder = tmp_path / profile.name
        folder.mkdir(exist_ok=True)
        shipped = shipped_checkpoint(profile.name)
        shutil.copy(shipped / "tokenizer.json", folder)
        settings = json.loads((shipped / "config.json").read_text()) | changes
        settings["action_spec"] = settings["action_spec"] | (spec or {})
        kept = {key: value for key, value in settings.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))
        return Checkpoint.read(folder, profile)
    return spoil


def test_missing_files_are_named(spoilt):
    only(checkpoint.files(spoilt()), ERROR, "lacks model.safetensors")


@pytest.mark.parametrize("text,word", [("{", "not JSON"), ("[]", "type 'None'"), ("\xff", "not JSON"),
                                       ('{"model_type": "llava"}', "llava")])
def test_a_config_that_cannot_be_read_is_one_error(tmp_path, text, word):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    bad, = (f for f in examine(PANDA, str(tmp_path)) if f.level != OK)
    assert (bad.level, bad.check) == (ERROR, "checkpoint") and word in bad.what


def test_another_robot_than_it_was_trained_on(spoilt):
    only(checkpoint.trained_on(spoilt(robot="ur5")), WARNING, "ur5", "panda")


@pytest.mark.parametrize("changes,level,words", [
    ({"action_low": None}, ERROR, ["lacks action_low"]),
    ({"action_low": None, "action_high": None}, ERROR, ["lacks action_low and action_high"]),
    ({"action_low": [0.0, 0.0, 0.0]}, ERROR, ["3 numbers", "4 dimensions"]),
    ({"action_high": [0.03, NAN, 0.03, 1.0]}, ERROR, ["dy", "nan"]),
    ({"action_high": [0.03, 0.03, INF, 1.0]}, ERROR, ["dz", "inf"]),
    ({"action_low": [0.03, -0.03, -0.03, 0], "action_high": [-0.03, 0.03, 0.03, 1]}, ERROR, ["dx", "not below"]),
    ({"action_low": [0, -0.03, -0.03, 0], "action_high": [0, 0.03, 0.03, 1]}, ERROR, ["dx", "not below"]),
    ({"action_low": [0, -0.03, -0.03, 0], "action_high": [1e-8, 0.03, 0.03, 1]}, ERROR, ["dx", "all but reaches"]),
    ({"action_low": [-1e-4, -0.03, -0.03, 0], "action_high": [1e-4, 0.03, 0.03, 1]}, WARNING, ["dx spans"])])
def test_statistics_of_actions(spoilt, changes, level, words):
    only(checkpoint.action_statistics(spoilt(**changes)), level, *words)


@pytest.mark.parametrize("changes,words", [
    ({"proprio_high": None}, ["lacks proprio_high"]),
    ({"proprio_low": [0.25, -0.2, 0.02]}, ["3 numbers"]),
    ({"proprio_low": [0.25, -0.2, NAN, 0.0]}, ["z", "nan"]),
    ({"proprio_low": [0.25, -0.2, 0.0, GAP - 1e-7]}, ["gap", "all but reaches"]),
    ({"proprio_low": [0.9, -0.2, 0.0, 0.0]}, ["x", "not below"])])
def test_statistics_of_proprioception(spoilt, changes, words):
    only(checkpoint.proprioception_statistics(spoilt(**changes)), ERROR, *words)


@pytest.mark.parametrize("profile,changes,words", [
    (PANDA, {"proprio_names": ["y", "x", "z", "gap"]}, ["reads y, x, z, gap", "feels x, y, z, gap"]),
    (PANDA, {"proprio_low": [250, -200, 17, 0], "proprio_high": [660, 226, 360, 80]}, ["x ran from 250 to 660"]),
    (PANDA, {"proprio_low": [1.25, -0.2, 0.017, 0], "proprio_high": [1.66, 0.23, 0.36, 0.08]}, ["x ran from 1.25"]),
    (PANDA, {"proprio_low": [0.25, -0.2, 0.017, 0], "proprio_high": [0.66, 0.23, 0.36, 1]}, ["gap ran from 0 to 1"]),
    (HUSKY, {"proprio_names": ["w", "v"]}, ["feels v, w"])])
def test_proprioception_is_what_the_robot_feels(spoilt, profile, changes, words):
    only(checkpoint.proprioception(spoilt(profile, **changes)), ERROR, *words)


@pytest.mark.parametrize("changes,spec,words", [
    ({"action_low": [-0.03, -0.03, -0.03, -1.0]}, {}, ["from -1 to 1", "looks like -1"]),
    ({"action_high": [0.03, 0.03, 0.03, 0.08]}, {}, ["0 to 0.08", "metres"]),
    ({"action_low": [-0.03, -0.03, -0.03, 0.4]}, {}, ["0.4 to 1", "never went all the way"]),
    ({}, {"gripper": ""}, ["has gripper", "convention is ''"]),
    ({}, {"names": ["dx", "dy", "dz"], "units": ["m"] * 3}, ["has no gripper", "open_is_one"])])
def test_a_gripper_is_a_fraction_with_a_sign(spoilt, changes, spec, words):
    only(actions.gripper(spoilt(spec=spec, **changes)), ERROR, *words)


def test_a_gripper_that_the_robot_lacks(spoilt):
    c = spoilt()
    only(actions.gripper(replace(c, profile=replace(PANDA, gripper=None))), ERROR, "'panda' has none")


@pytest.mark.parametrize("profile,changes,level,words", [
    (PANDA, {"action_low": [0.25, -0.03, -0.03, 0], "action_high": [0.66, 0.03, 0.03, 1]}, ERROR, ["dx", "never zero"]),
    (PANDA, {"action_low": [-30, -30, -30, 0], "action_high": [30, 30, 30, 1]}, ERROR, ["dx reaches 300 m/s"]),
    (HUSKY, {"action_low": [0.2, -1.0]}, ERROR, ["v", "never zero"]),
    (HUSKY, {"action_high": [0.6, 57.3]}, ERROR, ["w reaches 57.3 rad/s"]),
    (HUSKY, {"action_high": [0.9, 1.0]}, WARNING, ["v reaches 0.9 m/s", "allows 0.6 m/s"])])
def test_the_range_of_actions_tells_units_and_absolutes(spoilt, profile, changes, level, words):
    only(actions.motion(spoilt(profile, **changes)), level, *words)


# What actions mean

@pytest.mark.parametrize("change,words", [
    ({"names": ("dy", "dx", "dz", "gripper")}, ["names", "dy, dx"]),
    ({"frame": "panda_hand"}, ["frame", "panda_hand", "panda_link0"]),
    ({"gripper": ""}, ["gripper", "''", "open_is_one"]),
    ({"period": 0.2}, ["period", "0.2", "0.1"])])
def test_conventions_are_compared_one_by_one(change, words):
    acting = Acting(replace(PANDA.action, **change), PANDA, 4)
    assert len(only(actions.conventions(acting), ERROR, *words)) == 1


def test_every_difference_is_a_finding_of_its_own():
    found = only(actions.conventions(Acting(HUSKY.action, PANDA, 4)), ERROR)
    assert [f.what.partition(":")[0] for f in found] == ["names", "units", "frame", "mode", "gripper"]


def test_units_and_modes_that_there_are_not(spoilt):
    for spec, word in (({"units": ["mm", "mm", "mm", "1"]}, "mm"), ({"mode": "absolute"}, "absolute"),
                       ({"names": 3}, "malformed")):
        bad, = (f for f in examine(PANDA, str(spoilt(spec=spec).folder)) if f.level != OK)
        assert (bad.level, bad.check) == (ERROR, "checkpoint") and word in bad.what


def test_actions_must_be_in_the_base_frame():
    spec = replace(PANDA.action, frame="panda_hand")
    only(actions.base_frame(Acting(spec, replace(PANDA, action=spec), 4)), ERROR, "panda_hand", "panda_link0")


@pytest.mark.parametrize("horizon,execute,age,level", [
    (8, 4, 0.2, OK), (6, 4, 0.2, OK), (5, 4, 0.2, WARNING), (8, 4, 0.5, WARNING), (4, 4, 0.2, WARNING),
    (3, 4, 0.2, WARNING), (8, 8, 0.01, WARNING)])
def test_a_chunk_lasts_until_the_next_takes_over(horizon, execute, age, level):
    profile = replace(PANDA, max_observation_age=age)
    found, = actions.horizon(Acting(replace(PANDA.action, horizon=horizon), profile, execute))
    assert found.level == level


# What a checkpoint reads

@pytest.mark.parametrize("changes,words", [
    ({"camera": "left"}, ["'left'", "'front' 128 x 128"]),
    ({"image_size": 224}, ["'front' at 224 x 224", "128 x 128"])])
def test_cameras_by_name_and_size(spoilt, changes, words):
    only(inputs.cameras(spoilt(**changes)), ERROR, *words)


def test_a_camera_that_is_not_square_is_not_of_the_size(spoilt):
    wide = replace(PANDA, cameras={"front": Camera(160, 128, 40.0, "panda_link0", (1, 0, 1), (0, 0, 0))})
    only(inputs.cameras(replace(spoilt(), profile=wide)), ERROR, "160 x 128")


def test_the_order_of_several_cameras(spoilt):
    only(inputs.cameras(spoilt(cameras=["front", "wrist"])), OK)
    found = list(inputs.cameras(spoilt(cameras=["wrist", "front"])))
    assert found[-1].level == WARNING and "wrist, front in this order" in found[-1].what


def test_a_vocabulary_of_another_size(spoilt):
    only(inputs.tokenizer(spoilt(vocab_size=2048)), ERROR, "1977 tokens", "2048")


def test_a_tokenizer_that_cannot_spell(spoilt):
    c = spoilt(text_length=200)
    file = c.folder / "tokenizer.json"
    content = json.loads(file.read_text())
    ids = content["model"]["vocab"]
    content["model"]["merges"] = []
    ids["<gone>"] = ids.pop("q")
    file.write_text(json.dumps(content))
    only(inputs.tokenizer(c), ERROR, "do not come back whole")


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_tokenizer_that_cannot_be_read(spoilt, text):
    c = spoilt()
    (c.folder / "tokenizer.json").write_text(text)
    only(inputs.tokenizer(c), ERROR, "tokenizer.json cannot be read")


def test_instructions_that_do_not_fit(spoilt):
    only(inputs.tokenizer(spoilt(text_length=12)), WARNING, "longest", "11 fit")


def test_a_prompt_is_compared_byte_for_byte(spoilt):
    only(inputs.prompt(spoilt()), OK, "not applicable")
    only(inputs.prompt(spoilt(prompt_template="{instruction}")), OK)
    only(inputs.prompt(spoilt(prompt_template="{instruction} ")), ERROR, "'{instruction} '")
    only(inputs.prompt(spoilt(prompt_template="In: {instruction}?\nOut:")), ERROR, r"\nOut:")


def test_weights_that_do_not_open_are_one_error(spoilt):
    c = spoilt()
    only(checkpoint.weights(c), ERROR, "lacks model.safetensors")
    (c.folder / "model.safetensors").write_bytes(b"12345678 torn")
    assert len(only(checkpoint.weights(c), ERROR, "damaged")) == 1


def test_weights_of_another_architecture_are_one_error(tmp_path):
    from model_samples import TOKENIZER, tiny

    from vla_ros.model.files import save_checkpoint
    felt = {"proprio_low": [*PANDA.workspace.min, 0.0], "proprio_high": [*PANDA.workspace.max, PANDA.gripper.open]}
    save_checkpoint(tmp_path, tiny(PANDA, **felt), TOKENIZER)
    assert [f for f in examine(PANDA, str(tmp_path)) if f.level == ERROR] == []
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"width": 64}))
    bad, = (f for f in examine(PANDA, str(tmp_path)) if f.level == ERROR)
    assert bad.check == "weights" and "does not fit its config.json" in bad.what and "\n" not in bad.what


@pytest.mark.parametrize("changes,words", [
    ({"action_low": [0, "1", 2, 3]}, ["action_low", "list of numbers"]),
    ({"action_low": [False, 1, 2, 3]}, ["action_low", "list of numbers"]),
    ({"proprio_names": ["x", "y", "z", 4]}, ["proprio_names", "list of words"]),
    ({"vocab_size": "big"}, ["vocab_size", "int", "'big'"]),
    ({"text_length": True}, ["text_length", "int"]), ({"camera": None}, ["camera", "str", "None"])])
def test_a_setting_of_another_type_is_named(spoilt, changes, words):
    bad = [f for f in examine(PANDA, str(spoilt(**changes).folder), weights=False) if f.level == ERROR]
    assert any(all(word in f.what for word in words) for f in bad), bad


VALUES = st.recursive(st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=4),
                      lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner,
                                                                                  max_size=3), max_leaves=6)
KEYS = ("action_high", "action_low", "action_spec", "camera", "cameras", "image_size", "proprio_high", "proprio_low",
        "proprio_names", "robot", "text_length", "vocab_size", "prompt_template")
SPEC_KEYS = ("names", "units", "frame", "mode", "gripper", "period", "horizon")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3),
       spec=st.dictionaries(st.sampled_from(SPEC_KEYS), VALUES, max_size=2))
def test_whatever_a_config_holds_is_told_and_ends_nothing(tmp_path, changes, spec):
    settings = json.loads((shipped_checkpoint("panda") / "config.json").read_text())
    settings["action_spec"] |= spec
    (tmp_path / "config.json").write_text(json.dumps(settings | changes))
    found = examine(PANDA, str(tmp_path), weights=False)
    assert any(f.level == ERROR for f in found) and all("\n" not in f.what for f in found)


# The command, where it says no more than one line

@pytest.mark.parametrize("argv,words", [
    (["--robot", "pandas"], ["pandas", "did you mean 'panda'"]), (["--robot", "no/such.yaml"], ["no/such.yaml"]),
    (["--policy", "hodl"], ["hodl", "native"]), (["--policy", "no/such/folder"], ["no/such/folder", "config.json"]),
    (["--policy", "replay:"], ["replay"]), (["--json", "/proc/no/out.json", "--policy", "hold"], ["/proc/no"]),
    (["--execute-steps", "0"], ["--execute-steps"]), (["--no-such"], ["--no-such"])], ids=str)
def test_bad_arguments(capsys, argv, words):
    code, out, err = answer(capsys, "doctor", *argv)
    assert_one_line(code, err, *words)
    assert out == ""


def test_a_policy_that_there_is_not_and_a_recording_that_does_not_fit(tmp_path):
    with pytest.raises(UnknownNameError):
        examine(PANDA, "hodl")
    with pytest.raises(CheckpointError):
        examine(PANDA, "no/such/folder")
    file = tmp_path / "two.npz"
    np.savez(file, chunks=np.zeros((1, 8, 2)), names=np.array(["v", "w"]))
    bad, = (f for f in examine(PANDA, f"replay:{file}") if f.level != OK)
    assert (bad.level, bad.check) == (ERROR, "policy")


def test_what_is_wrong_takes_three_lines_for_a_person():
    text = command.described(Finding(ERROR, "gripper", "turned around", "it opens " * 30, "turn it"))
    lines = text.splitlines()
    assert lines[0] == "error    gripper: turned around" and lines[-1] == " " * 9 + "mend turn it"
    assert all(len(line) <= command.WIDTH for line in lines)
    assert command.described(Finding(OK, "gripper", "fine")) == "ok       gripper: fine"
    assert os.linesep not in command.HELP
