"""`vla`: bad input is answered with one line that names the valid choices, and exit code 2."""

import argparse
import importlib
import os

import numpy as np
import pytest
from PIL import Image

from vla_ros import cli, errors, policies
from vla_ros.errors import ActionError, ObservationError, UnknownNameError, VlaError
from vla_ros.paths import data_folder
from vla_ros.policies import open_policy
from vla_ros.policies.hold import HoldPolicy
from vla_ros.profile import load_profile
from vla_ros.types import Answer


def answer(capsys, *argv) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a call."""
    try:
        code = cli.main(list(argv))
    except SystemExit as end:  # argparse's way out
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


def assert_one_line(code: int, err: str, *words: str) -> None:
    assert code == 2 and err.count("\n") == 1 and err.startswith("vla") and "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"], ["help"]], ids=str)
def test_help_lists_every_command(capsys, argv):
    code, out, _ = answer(capsys, *argv)
    assert code == 0 and all(name in out for name in cli.command_names())


@pytest.mark.parametrize("name", cli.command_names())
def test_every_command_has_a_line_of_help_and_options(capsys, name):
    command = cli.load(name)
    assert command.HELP and "\n" not in command.HELP
    command.add_arguments(argparse.ArgumentParser())
    code, out, _ = answer(capsys, name, "--help")
    assert code == 0 and f"vla {name}" in out


def test_an_unknown_command_suggests_the_nearest(capsys):
    code, _, err = answer(capsys, "evall")
    assert_one_line(code, err, "evall", "did you mean 'eval'")


@pytest.mark.parametrize("argv,words", [
    (["--task", "raech"], ["raech", "did you mean 'reach'", "drive", "pick", "push"]),
    (["--task", "reach,"], ["task"]),
    (["--policy", "holdd"], ["holdd", "did you mean 'hold'"]),
    (["--policy", "./no/such/checkpoint"], ["no/such/checkpoint"]),
    (["--clock", "stopped"], ["--clock", "paused"]),
    (["--episodes", "0"], ["--episodes"]),
    (["--episodes", "many"], ["--episodes", "many"]),
    (["--jobs", "0"], ["--jobs"]),
    (["--seeds-from", "-1"], ["--seeds-from"]),
    (["--seeds-from", "1000000"], ["train"]),
    (["--min-rate", "1.5"], ["--min-rate"]),
    (["--no-such-option"], ["--no-such-option"]),
    (["--json", "/proc/no/such/folder/out.json"], ["/proc/no/such/folder"]),
    (["--conditions", "plain,camrea"], ["camrea", "did you mean 'camera'", "latency-200"]),
    (["--conditions", "pairs", "--task", "drive"], ["pairs", "drive"]),
    (["--conditions", "light", "--through", "ros"], ["plain", "inprocess"]),
    (["--wordings", "no/such/file.yaml"], ["no/such/file.yaml"]),
    (["--conditions", "plain", "--wordings", "{wordings}"], ["--wordings", "condition wordings"]),
    (["--thinking", "-1"], ["--thinking", "-1"]),
    (["--engine", "dask"], ["--engine", "ray"]),
    (["--html", "/proc/no/such/folder/out.html"], ["/proc/no/such/folder"]),
    (["--compare"], ["--through ros"])], ids=str)
def test_bad_input_to_eval(capsys, tmp_path, argv, words):
    file = tmp_path / "wordings.yaml"
    file.write_text('reach: ["touch the {o}"]')
    argv = [word.format(wordings=file) for word in argv]
    code, _, err = answer(capsys, "eval", "--episodes", "1", "--policy", "hold", *argv)
    assert_one_line(code, err, *words)


@pytest.fixture
def picture(tmp_path):
    """A PNG of 64 x 48 px, the left half red."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32, 0] = 250
    file = tmp_path / "photo.png"
    Image.fromarray(pixels).save(file)
    return file


def torn(file):
    file.write_bytes(file.read_bytes()[:70])


@pytest.mark.parametrize("spoil,argv,words", [
    (None, ["  "], ["question is empty"]),
    (lambda file: file.unlink(), ["what?"], ["photo.png", "No such file"]),
    (lambda file: file.write_text("not an image"), ["what?"], ["photo.png", "PNG or JPEG"]),
    (torn, ["what?"], ["photo.png", "PNG or JPEG"]),
    (lambda file: Image.new("RGB", (9, 9)).save(file, "GIF"), ["what?"], ["photo.png", "PNG or JPEG"]),
    (None, ["what?", "--camera", "front"], ["--camera", "--image"]),
    (None, ["what?", "--robot", "pandas"], ["pandas", "did you mean 'panda'"]),
    (None, ["what?", "--policy", "hodl"], ["hodl", "native"]),
    (None, ["what?", "--policy", "hold"], ["policy 'hold' answers no questions", "native"]),
    (None, [], ["question"])], ids=str)
def test_bad_input_to_ask(capsys, monkeypatch, picture, spoil, argv, words):
    if spoil:
        monkeypatch.setattr(policies, "open_policy", lambda source, profile: Witness(profile))
        spoil(picture)
    code, out, err = answer(capsys, "ask", "--image", str(picture), *argv)
    assert_one_line(code, err, *words)
    assert out == ""


class Witness(HoldPolicy):
    """Says how large the image is, and how red its halves are."""

    def ask(self, image, question):
        left, right = (np.median(half[..., 0]) for half in np.split(image, 2, axis=1))
        return Answer(f"{question} {image.shape} {image.dtype} {left:.0f} {right:.0f}", 0.876, {})


@pytest.mark.parametrize("size,squeezed", [((64, 48), True), ((48, 48), False), ((128, 128), False)])
def test_ask_answers_from_an_image_of_any_size(capsys, monkeypatch, picture, size, squeezed):
    monkeypatch.setattr(policies, "open_policy", lambda source, profile: Witness(profile))
    Image.open(picture).resize(size).convert("RGBA").save(picture)
    code, out, err = answer(capsys, "ask", "--image", str(picture), "what  is\tred?")
    assert code == 0 and out == "what is red? (128, 128, 3) uint8 250 0\nconfidence 0.88\n"
    assert ("64 x 48 px" in err and "squeezed to 128 x 128 px" in err) if squeezed else err == ""


def test_an_error_of_ours_becomes_one_line_and_its_exit_code(capsys, monkeypatch):
    def fail(args):
        raise errors.ConfigError("the robot has no arms")
    monkeypatch.setattr(importlib.import_module("vla_ros.commands.eval"), "run", fail)
    code, _, err = answer(capsys, "eval")
    assert (code, err) == (2, "vla: the robot has no arms\n")


def test_ctrl_c_ends_without_a_traceback(capsys, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt
    monkeypatch.setattr(importlib.import_module("vla_ros.commands.eval"), "run", interrupt)
    assert answer(capsys, "eval")[0] == 130


def test_names_are_suggested_and_listed():
    error = UnknownNameError("camera", "frnt", ["wrist", "front"])
    assert str(error) == "unknown camera 'frnt' (did you mean 'front'?); available: front, wrist"
    assert str(UnknownNameError("camera", "x", [])).endswith("available: none")


@pytest.mark.parametrize("error", [UnknownNameError("task", "x", ["reach"]), ActionError("finite", "not finite"),
                                   ObservationError("stale", "too old"), errors.SimulationError("no")], ids=repr)
def test_errors_cross_processes_whole(error):
    import pickle
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


def test_every_error_is_a_vla_error():
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(kinds) > 5 and all(issubclass(kind, VlaError) for kind in kinds)


@pytest.fixture
def checkpoint(tmp_path):
    """One for the husky, with random weights, to be damaged."""
    from model_samples import TOKENIZER, tiny

    from vla_ros.model.files import save_checkpoint
    save_checkpoint(tmp_path / "husky", tiny(load_profile("husky")), TOKENIZER)
    return tmp_path / "husky"


@pytest.mark.parametrize("damage,words", [
    (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678 torn"), ["damaged"]),
    (lambda folder: os.truncate(folder / "model.safetensors", 100_000), ["damaged"]),
    (lambda folder: (folder / "model.safetensors").unlink(), ["lacks model.safetensors"]),
    (lambda folder: (folder / "config.json").write_text("{"), ["config.json", "not JSON"]),
    (lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'), ["llama", "expected"])],
    ids=["no header", "cut off", "no weights", "torn config", "another model"])
def test_a_damaged_checkpoint(capsys, checkpoint, damage, words):
    damage(checkpoint)
    code, _, err = answer(capsys, "eval", "--task", "drive", "--episodes", "1", "--policy", str(checkpoint))
    assert_one_line(code, err, str(checkpoint), *words)


def test_a_checkpoint_of_another_robot(capsys, checkpoint):
    code, _, err = answer(capsys, "eval", "--task", "reach", "--episodes", "1", "--policy", str(checkpoint))
    assert_one_line(code, err, "policy and robot disagree", "names")


def test_a_robot_file_with_a_misspelt_key(capsys, tmp_path):
    file = tmp_path / "mine.yaml"
    shipped = (data_folder("config") / "robots" / "husky.yaml").read_text()
    file.write_text(shipped.replace("control_rate", "controll_rate"))
    code, _, err = answer(capsys, "up", "sim", "--robot", str(file))
    assert_one_line(code, err, "mine.yaml", "controll_rate", "did you mean 'control_rate'")


def test_a_camera_of_another_size(tmp_path, checkpoint):
    file = tmp_path / "mine.yaml"
    shipped = (data_folder("config") / "robots" / "husky.yaml").read_text()
    file.write_text(shipped.replace("width: 96, height: 96", "width: 64, height: 64"))
    with pytest.raises(errors.CheckpointError, match="camera 'front' of 96 x 96 px.*'front' 64 x 64") as caught:
        open_policy(str(checkpoint), load_profile(str(file)))
    assert "\n" not in str(caught.value)
