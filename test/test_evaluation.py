"""Scores: intervals, the journal of an interrupted run, the same outcomes whatever the workers, videos that open."""

import json
import math
import os
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from core_samples import PANDA, chunk
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.cli import main
from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.evaluation import video
from vla_ros.evaluation.evaluate import Episode, episodes, evaluate, workers
from vla_ros.evaluation.identity import digest, identity
from vla_ros.evaluation.rollout import Outcome, run_episode
from vla_ros.evaluation.scores import Journal, agreement, as_table, report
from vla_ros.evaluation.table import table
from vla_ros.evaluation.wilson import wilson
from vla_ros.policies.hold import HoldPolicy

COUNTS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def outcome(task="reach", seed=0, ending="success", seconds=2.0) -> Outcome:
    return Outcome(task, seed, "touch the red cube", ending == "success", ending, seconds, 0.01)


@pytest.mark.parametrize("successes,n,low,high", [
    (10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (95, 100, 0.8882, 0.9785), (50, 100, 0.4038, 0.5962),
    (1, 1, 0.2065, 1.0)])
def test_wilson_agrees_with_published_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@given(COUNTS)
def test_the_bounds_solve_the_equation_that_defines_them(case):
    """|rate - p| = z sqrt(p (1 - p) / n) at both ends, which hold the rate between them; failures mirror successes."""
    successes, n = case
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    for p in (low, high):
        if 0 < p < 1:
            assert abs(successes / n - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / n), rel=1e-4, abs=1e-9)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_no_episodes_say_nothing_and_impossible_counts_are_errors():
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError):
        wilson(3, 2)


def test_the_report_has_the_keys_that_are_promised():
    outcomes = [outcome("push", 1, "time"), outcome("push", 0), outcome("reach", 0), outcome("reach", 1)]
    made = report(outcomes, ["reach", "push"], checkpoint="x@1", seeds=[0, 1], clock="paused")
    assert json.loads(json.dumps(made)) == made
    assert list(made["families"]) == ["reach", "push"] and made["mean"] == 0.75
    push = made["families"]["push"]
    assert {"n": 2, "successes": 1, "rate": 0.5}.items() <= push.items() and push["ci95"] == list(wilson(1, 2))
    assert push["endings"] == {"time": 1, "success": 1}
    assert (made["checkpoint"], made["seeds"], made["clock"]) == ("x@1", [0, 1], "paused")
    assert made == report(reversed(outcomes), ["reach", "push"], checkpoint="x@1", seeds=[0, 1], clock="paused")
    shown = as_table(made)
    assert all(word in shown for word in ("reach", "push", "50.0 %", "95 % interval", "mean", "75.0 %", "1 time"))


def test_a_family_without_success_has_no_mean_time():
    made = report([outcome(ending="refused")], ["reach"])
    assert made["families"]["reach"]["mean_seconds"] is None and " - " in as_table(made)


def test_an_interrupted_run_goes_on_even_after_a_torn_line(tmp_path):
    file = tmp_path / "deep" / "scores.part.jsonl"
    first = Journal(file, {"checkpoint": "a"})
    assert first.open()
    first.add(outcome(seed=3))
    first.add(outcome(seed=4, ending="time"))
    with file.open("a") as stream:
        stream.write('{"task": "reach", "se')
    again = Journal(file, {"checkpoint": "a"})
    assert again.open() and again.outcomes == first.outcomes
    again.add(outcome(seed=5))
    last = Journal(file, {"checkpoint": "a"})
    assert last.open() and sorted(seed for _, seed, _ in last.outcomes) == [3, 4, 5]
    last.close()
    assert not file.exists()


def test_a_run_of_something_else_begins_anew(tmp_path):
    file = tmp_path / "scores.part.jsonl"
    first = Journal(file, {"checkpoint": "a"})
    first.open()
    first.add(outcome())
    other = Journal(file, {"checkpoint": "b"})
    assert not other.open() and not other.outcomes
    with pytest.raises(ConfigError, match="cannot write"):
        Journal(file / "below" / "a.jsonl", {}).open()


def test_the_digest_is_of_what_decides_the_behaviour(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    (tmp_path / "config.json").write_text("{}")
    first = digest(tmp_path)
    (tmp_path / "README.md").write_text("98 %")
    assert digest(tmp_path) == first
    (tmp_path / "config.json").write_text("{ }")
    assert digest(tmp_path) != first != digest(tmp_path / "config.json")
    assert identity("hold", ["reach", "drive"]) == "hold"


def test_agreement_names_each_episode_that_ends_otherwise():
    ours = [outcome(seed=0), outcome(seed=1, ending="time"), outcome(seed=2)]
    theirs = {o.key: o for o in (outcome(seed=0, seconds=9.0), outcome(seed=1), outcome(seed=2))}
    made = agreement(ours, theirs)
    assert (made["n"], made["same"], made["same_moment"]) == (3, 2, 1)
    assert made["differences"] == ["reach 1: time after 2.00 s, in process success after 2.00 s"]


def test_the_outcomes_do_not_depend_on_the_number_of_workers():
    todo = episodes(["reach", "drive"], 2, 7)
    assert {(e.task, e.seed) for e in todo} == {("reach", 7), ("reach", 8), ("drive", 7), ("drive", 8)}
    runs = [sorted(evaluate(todo, "oracle", jobs), key=lambda o: (o.task, o.seed)) for jobs in (1, 2)]
    assert runs[0] == runs[1] and all(o.success for o in runs[0])


def test_a_worker_is_born_with_one_thread_and_the_parent_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with workers(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_workers_error_arrives_as_it_was_raised():
    with pytest.raises(UnknownNameError, match="did you mean 'hold'"):
        list(evaluate([Episode("reach", 0)], "holdd", 1))


def test_the_command_writes_scores_and_fails_below_the_rate_asked_for(tmp_path, capsys):
    file = tmp_path / "out" / "scores.json"
    call = ["eval", "--task", "reach", "--policy", "hold", "--episodes", "1", "--jobs", "1", "--json", str(file)]
    assert main(call) == 0 and main([*call, "--min-rate", "0.5"]) == 1
    made = json.loads(file.read_text())
    assert made["families"]["reach"]["endings"] == {"time": 1} and made["seeds"] == [0, 0]
    assert [p.name for p in file.parent.iterdir()] == ["scores.json"]
    assert "below 50%: reach" in capsys.readouterr().out


def test_conditions_have_cells_of_their_own_and_an_interrupted_run_goes_on(tmp_path, capsys, monkeypatch):
    """The second call finds all but one episode done, and writes the same scores."""
    from vla_ros.evaluation import evaluate as module
    file = tmp_path / "scores.json"
    call = ["eval", "--task", "reach,push", "--policy", "hold", "--episodes", "2", "--jobs", "1", "--json", str(file),
            "--conditions", "plain,black,absent"]
    assert main(call) == 0
    made = json.loads(file.read_text())
    assert {name: cell["n"] for name, cell in made["conditions"].items()} == {"plain": 4, "absent": 2, "black": 2}
    assert made["conditions"]["black"]["endings"] == {"still": 2} and made["conditions"]["black"]["rate"] == 1
    assert made["conditions"]["absent"]["endings"] == {"answered": 2} and made["families"]["push"]["n"] == 2
    assert set(made["conditions"]["absent"]["families"]) == {"reach", "push"}
    assert made["calibration"]["n"] == 6 and made["calibration"]["ece"] == 1  # sure, and always wrong
    shown = capsys.readouterr().out
    assert "condition" in shown and "calibration error 100.0 %" in shown
    facts = {key: made[key] for key in ("checkpoint", "clock", "through", "splice")}
    journal = Journal(file.with_suffix(".part.jsonl"), facts)
    journal.open()
    for episode in made["episodes"][1:]:
        journal.add(Outcome(**episode))
    ran, spread = [], module.spread
    monkeypatch.setattr(module, "spread", lambda call, todo, *rest: ran.extend(todo) or spread(call, todo, *rest))
    assert main(call) == 0 and json.loads(file.read_text()) == made
    assert [e.key for e in ran] == [Outcome(**made["episodes"][0]).key]


def test_a_file_of_wordings_is_scored(tmp_path):
    wordings, file = tmp_path / "mine.yaml", tmp_path / "scores.json"
    wordings.write_text('reach: ["lay a hand upon the {o}"]\n')
    assert main(["eval", "--task", "reach,push", "--policy", "hold", "--episodes", "1", "--jobs", "1", "--json",
                 str(file), "--wordings", str(wordings)]) == 0
    made = json.loads(file.read_text())
    assert list(made["conditions"]) == ["wordings"] and list(made["families"]) == ["reach"]
    assert made["episodes"][0]["instruction"].startswith("lay a hand upon the ")
    assert made["wordings"].startswith("mine.yaml@")


class Faulty(HoldPolicy):
    def infer(self, observation):
        return chunk(PANDA, np.full((8, 4), np.nan), observation.stamp)


def test_a_policy_that_answers_nonsense_ends_its_episode_as_a_fault():
    from vla_ros.sim.bullet import BulletWorld
    world = BulletWorld(PANDA, cameras=())
    ended = run_episode(world, Faulty(PANDA), 0)
    assert (ended.success, ended.ending) == (False, "fault") and "not finite" in ended.detail
    world.close()


def test_tables_align():
    assert table(("a", "bb"), [("long", 1)]) == "a     bb\n--------\nlong   1"


def frames(count=10, height=31, width=45):
    return [np.full((height, width, 3), min(20 * i, 250), np.uint8) for i in range(count)]


def test_an_mp4_opens_with_its_frames_and_an_even_size(tmp_path):
    video.write_mp4(tmp_path / "a" / "episode.mp4", frames(), 10)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a" / "episode.mp4"))
    facts = next(reader)
    assert facts["size"] == (46, 32) and facts["codec"] == "h264" and "yuv420p" in facts["pix_fmt"]
    shown = [np.frombuffer(data, np.uint8).reshape(32, 46, 3) for data in reader]
    assert len(shown) == 10
    for got, sent in zip(shown, frames(), strict=True):
        np.testing.assert_allclose(got.mean(), sent.mean(), atol=6)
    play = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "a" / "episode.mp4", "-f", "null", "-"]
    subprocess.run(play, check=True)


@given(st.integers(1, 40))
def test_a_contact_sheet_spreads_over_the_episode(count):
    made = video.contact_sheet(frames(count, 30, 40), ["touch the red cube", "success"], columns=4, rows=2)
    assert made.shape == (60 + 2 * video.LINE + video.MARGIN, 160, 3)
    assert (made[0, 0] == 0).all() and (made[59, 159] == frames(count)[-1][0, 0]).all()


def test_a_caption_is_cut_to_its_width_and_views_stand_side_by_side(tmp_path):
    both = video.side_by_side([frames()[3], np.zeros((96, 96, 3), np.uint8)], 62)
    assert both.shape == (62, 90 + 62, 3) and (both[:, :90] == 60).all()
    made = video.captioned(both, ["a long caption " * 20])
    assert made.shape == (62 + video.LINE + video.MARGIN, 152, 3) and (made[62:] > 100).any()
    video.write_png(tmp_path / "b" / "sheet.png", made)
    assert (tmp_path / "b" / "sheet.png").stat().st_size > 100
