"""Ray: the same seeds end the same as in the process pool; without it, one line that says what to install."""

import json
import sys

import pytest

from vla_ros.cli import main
from vla_ros.errors import UnknownNameError
from vla_ros.evaluation import evaluate
from vla_ros.evaluation.cluster import spread
from vla_ros.evaluation.evaluate import Episode, Options, episodes, run

OPTIONS = Options(thinking=0.02)


@pytest.fixture
def local(monkeypatch):
    """Skips where Ray is not installed; a cluster of the user's own is left alone."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    monkeypatch.setenv("RAY_ADDRESS", "local")


def test_without_ray_one_line_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["eval", "--task", "reach", "--policy", "hold", "--episodes", "1", "--engine", "ray"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "vla_ros[ray]" in said


def test_two_ray_workers_end_every_episode_as_processes_do(local):
    todo = episodes(["reach", "drive"], 3, 7, ["plain", "camera", "latency-200", "changed", "black"])
    ours, theirs = (sorted(engine(run, todo, "oracle", 2, OPTIONS), key=lambda o: o.key)
                    for engine in (spread, evaluate.spread))
    assert len(ours) == len(todo) and ours == theirs


def test_an_error_of_a_ray_worker_arrives_as_it_was_raised(local):
    with pytest.raises(UnknownNameError, match="did you mean 'hold'"):
        list(spread(run, [Episode("reach", 0)], "holdd", 1))


def test_the_command_spreads_over_ray(local, tmp_path):
    file = tmp_path / "scores.json"
    assert main(["eval", "--task", "reach", "--policy", "hold", "--episodes", "2", "--jobs", "2", "--engine", "ray",
                 "--json", str(file)]) == 0
    assert json.loads(file.read_text())["families"]["reach"]["endings"] == {"time": 2}
