"""Demonstrations: what is simulated, from which seeds, and what a frame knows."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.profile import load_profile
from vla_ros.sim.appearance import PLAIN, displaced
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.world import COLOURS, MOVABLE, OBJECT_COLOURS, SHAPES
from vla_ros.training import demos, recording

FAMILIES = ["reach", "stop", "pick"]


@pytest.fixture(scope="module")
def world():
    made = BulletWorld(load_profile("panda"), get_task("reach"), cameras=("front",))
    yield made
    made.close()


def test_episodes_are_for_each_family_and_still_scenes_for_all_together(tmp_path):
    made = demos.shards(tmp_path, FAMILIES, episodes=30, stills=1000)
    counts = Counter()
    for shard in made:
        counts[shard.task, shard.still] += shard.count
    assert counts == {("reach", False): 30, ("stop", False): 30, ("pick", False): 30,
                      ("reach", True): 334, ("stop", True): 333, ("pick", True): 333}
    assert len({shard.file for shard in made}) == len(made)


def test_no_seed_is_used_twice_for_a_family_nor_in_an_evaluation(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(demos, "complete", lambda folder, wanted, jobs: asked.extend(wanted))
    demos.collect(tmp_path, FAMILIES, 1000, 12000, jobs=1)
    demos.collect_held_out(tmp_path, FAMILIES, jobs=1)
    seeds = Counter((s.task, seed) for s in asked for seed in range(s.seed, s.seed + s.count))
    assert max(seeds.values()) == 1 and min(seed for _, seed in seeds) >= demos.FIRST_SEED
    held_out = [s for s in asked if "held-out" in s.file.name]
    assert all(s.still for s in held_out) and sum(s.count for s in held_out) >= demos.HELD_OUT_STILLS
    assert not set(demos.shards(tmp_path, FAMILIES, 1000, 12000)) & set(held_out)


def test_held_out_stills_are_not_loaded_with_those_to_train_on(demonstrations, tmp_path):
    (tmp_path / "push-held-out-000000.npz").write_bytes((demonstrations / "push-still-000000.npz").read_bytes())
    with pytest.raises(ConfigError, match="vla demos"):
        recording.load([tmp_path], "*-still-*")
    assert len(recording.load([tmp_path], "*-held-out-*")["image"]) == 4


def test_what_is_there_is_not_made_again(demonstrations):
    assert demos.collect(demonstrations, ["stack", "push"], 1, 8, jobs=1) == 0


def test_demonstrations_end_in_success(world):
    world.reset(demos.FIRST_SEED, get_task("pick"))
    seen = demos.demonstrate(world, demos.FIRST_SEED)
    assert world.progress.success and len(seen) > 5


def test_some_scenes_are_displaced_and_some_lit():
    class Catcher:
        task, looks = get_task("stop"), []

        def lay_out(self, scene, appearance):
            self.looks.append(appearance)

    catcher = Catcher()
    for seed in range(300):
        demos.begin(catcher, seed)
    moved = np.array([look.shift != PLAIN.shift for look in catcher.looks])
    lit = np.array([look.ambient != PLAIN.ambient for look in catcher.looks])
    assert abs(moved.mean() - demos.DISPLACED) < 0.1 and abs(lit.mean() - demos.LIT) < 0.1
    assert (moved & lit).any() and (~moved & ~lit).any()


def test_a_tint_is_no_colour_that_has_a_name_and_least_of_all_one_kept_from_its_shape():
    rng = np.random.default_rng(0)
    for shape in MOVABLE:
        tints = np.array([list(bytes.fromhex(demos.nameless(rng, shape)[1:])) for _ in range(300)]) / 255
        for name in OBJECT_COLOURS:
            least = demos.UNSEEN if (shape, name) in HELD_OUT_PAIRS else demos.UNLIKE
            assert np.linalg.norm(tints - COLOURS[name], axis=1).min() > least - 0.01, (shape, name)
        assert np.ptp(tints, axis=0).min() > 0.7, "of every hue"
        kept = [COLOURS[name] for held_out, name in HELD_OUT_PAIRS if held_out == shape]
        near = (np.linalg.norm(tints[:, None] - kept, axis=-1).min(1) <= demos.NEAR + 0.01).mean()
        assert near > 0.9 * demos.NEARBY, shape


def test_a_form_has_no_name_and_is_made_of_no_held_out_pair():
    rng, thing, made = np.random.default_rng(0), get_task("pick").layout(np.random.default_rng(0)).objects[0], []
    for _ in range(400):
        made.append(odd := demos.oddly_shaped(thing, rng))
        assert not odd.plain and odd.colour in OBJECT_COLOURS and odd.position[2] == pytest.approx(odd.half_height)
        assert odd.sides or (odd.shape, odd.colour) not in HELD_OUT_PAIRS
        assert odd.sides or max(odd.stretch) >= demos.UNEVEN * min(odd.stretch)
    assert {(odd.shape, odd.sides) for odd in made} == set(demos.FORMS)
    assert {odd.colour for odd in made} == set(OBJECT_COLOURS)


def test_an_odd_scene_shows_what_it_says(world):
    scene = get_task("pick").layout(np.random.default_rng(3))
    bare = {"start": (0.40, 0.0, 0.34, 0.08)}

    def shown(**changes):
        world.lay_out(replace(scene, objects=tuple(replace(o, **changes) for o in scene.objects), **bare),
                      get_task("pick"))
        return world.observe().images["front"], world.mask("front") == scene.target
    for hexes, rgb in (("#00ffee", (0, 1, 1)), ("#ff00aa", (1, 0, 0.7))):
        image, mask = shown(colour=hexes)
        assert mask.any() and np.corrcoef(image[mask].astype(float).mean(0), rgb)[0, 1] > 0.9
        assert recording.frame(world, world.observe())["colour"].max() == -1
    plain, wide, pyramid = (shown(shape="cylinder", **changes)[1].sum() for changes in (
        {}, {"stretch": (1.0, 2.0, 1.0)}, {"sides": 3}))
    assert wide > 1.3 * plain and pyramid < plain
    there = recording.frame(world, world.observe())["shape"]
    assert (there == len(SHAPES)).sum() == len(scene.objects)


def test_odd_scenes_have_no_whole_names():
    rng, seen = np.random.default_rng(0), Counter()
    for seed in range(60):
        scene = demos.odd(get_task("pick").layout(np.random.default_rng(seed)), rng)
        for thing in scene.objects:
            if thing.shape in MOVABLE:
                assert thing.colour.startswith("#") == thing.plain
                seen[thing.plain] += 1
    assert seen[True] > 60 and seen[False] > 60


def test_odd_scenes_are_still_and_have_seeds_of_their_own(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(demos, "complete", lambda folder, wanted, jobs: asked.extend(wanted))
    demos.collect(tmp_path, FAMILIES, 10, 700, 1, odd=1000)
    made = [shard for shard in asked if shard.odd]
    assert sum(shard.count for shard in made) == 1000 and all(shard.still for shard in made)
    seeds = Counter((s.task, seed) for s in asked for seed in range(s.seed, s.seed + s.count))
    assert max(seeds.values()) == 1 and len({shard.file for shard in asked}) == len(asked)


def test_pixels_are_where_the_image_shows_the_objects_however_the_camera_stands(world):
    rng, hits, moved = np.random.default_rng(0), [], []
    for seed in range(8):
        scene = get_task("pick").layout(np.random.default_rng(seed))
        world.lay_out(scene, get_task("pick"), appearance=displaced(rng))
        frame, mask = recording.frame(world, world.observe()), world.mask("front")
        count = len(scene.objects)
        u, v = np.rint(frame["pixels"][:count]).astype(int).clip(0, 127).T
        shown = np.isin(np.arange(count), mask)
        assert np.allclose(frame["hand"], world.pixels("front", world.state.ee[None])[0], atol=1e-3)
        hits += (mask[v, u] == np.arange(count))[shown].tolist()
        world.lay_out(scene, get_task("pick"))
        moved.append(np.abs(world.pixels("front", world.state.objects) - frame["pixels"][:count]).max())
    assert np.mean(hits) > 0.9, "but for what the arm hides"
    assert min(moved) > 1.0


def test_a_frame_knows_the_scene(world):
    world.reset(3, get_task("next_to"))
    frame, scene = recording.frame(world, world.observe()), world.scene
    count = len(scene.objects)
    assert set(frame) == set(recording.FIELDS)
    assert (frame["target"], frame["reference"], frame["task"]) == (scene.target, scene.reference, "next_to")
    assert recording.RELATIONS[frame["relation"]] == scene.relation and frame["direction"] == 0
    assert (frame["shape"] >= 0).sum() == (frame["colour"] >= 0).sum() == count
    assert np.allclose(frame["objects"][:count], world.state.objects)
    assert frame["image"].shape == (128, 128, 3) and frame["episode"] == 3


def test_every_family_fits_in_a_frame():
    most = max(len(task.layout(np.random.default_rng(seed)).objects) for task in TASKS.values() for seed in range(60))
    assert most <= recording.MOST


def test_a_shard_is_whole_or_not_there(tmp_path, monkeypatch, demonstrations):
    with np.load(demonstrations / "push-still-000000.npz") as data:
        shot = [{name: data[name][i] for name in recording.FIELDS} for i in range(2)]
    recording.save(tmp_path / "a.npz", shot)
    assert np.array_equal(recording.load([tmp_path])["image"][1], shot[1]["image"])
    monkeypatch.setattr(np, "savez_compressed", lambda out, **arrays: out.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recording.save(tmp_path / "b.npz", shot)
    assert not (tmp_path / "b.npz").exists() and len(recording.load([tmp_path])["image"]) == 2
