"""Demonstrations: the expert's episodes, with disturbances, and still scenes, some of things that have no whole name.

Written as shards, resumable.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vla_ros.control import Controller
from vla_ros.profile import load_profile
from vla_ros.sim.appearance import PLAIN, displaced, lit
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import get_task
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.tasks.layout import draw_until
from vla_ros.sim.world import COLOURS, MOVABLE, OBJECT_COLOURS, Scene, SceneObject
from vla_ros.training import recording
from vla_ros.types import ActionChunk

FIRST_SEED = 1_000_000  # evaluation counts its seeds from 0: the two never meet
STILL_OFFSET, HELD_OUT_OFFSET, ODD_OFFSET = 100_000_000, 200_000_000, 300_000_000
EPISODES_A_SHARD, STILLS_A_SHARD = 25, 250
HELD_OUT_STILLS = 500  # in all, to measure the stages on
DISPLACED, LIT = 0.4, 0.4  # shares of the scenes with a displaced camera, and with another light
DISTURBED = 0.2  # share of the decisions that a random motion replaces
AFTERWARDS = 2  # decisions recorded after success
TINTED = 0.5  # share of the things of an odd scene whose colour has no name; the others' shape has none
UNLIKE = 0.25  # least distance of such a colour from each that has a name, at any brightness; RGB, 0 to 1
UNSEEN = 0.3  # and from each that training never shows on the shape
NEAR, NEARBY = 0.45, 0.5  # distance up to which it is near to such a one, and share of colours that are
FORMS = (("cube", 0), ("cylinder", 0), ("cone", 0), ("cone", 3), ("cone", 4), ("cylinder", 3))  # and their sides
STRETCH, SQUEEZE = (0.45, 1.5), (0.7, 1.4)  # of a form along each of its axes, of one with sides
UNEVEN = 1.8  # least ratio between two of the axes, without sides
BRIGHTNESSES = np.linspace(0.4, 1.5, 12)
PLAINLY = 6  # of these: 1


@dataclass(frozen=True)
class Shard:
    """One file of demonstrations: `count` episodes or still scenes of a task, from `seed` on.

    passes: how often each episode is shown, disturbed in another way; plain: as an evaluation shows them, without
    another light or a displaced camera; odd: as odd() has them.
    """

    file: Path
    task: str
    seed: int
    count: int
    still: bool
    passes: int = 1
    plain: bool = False
    odd: bool = False


def shards(folder: Path, tasks: Sequence[str], episodes: int, stills: int, odd: int = 0) -> list[Shard]:
    """The files that make up a set: `episodes` episodes a task, and `stills` still and `odd` odd scenes of all
    tasks together."""
    out = [s for task in tasks for s in split(folder, task, "episode", FIRST_SEED, episodes, EPISODES_A_SHARD)]
    for i, task in enumerate(tasks):
        count = len(range(i, stills, len(tasks)))
        out += split(folder, task, "still", FIRST_SEED + STILL_OFFSET, count, STILLS_A_SHARD)
        count = len(range(i, odd, len(tasks)))
        out += [replace(shard, odd=True)
                for shard in split(folder, task, "odd", FIRST_SEED + ODD_OFFSET, count, STILLS_A_SHARD)]
    return out


def split(folder: Path, task: str, kind: str, first: int, total: int, size: int) -> list[Shard]:
    """`total` seeds from `first` on, in files of `size`."""
    return [Shard(folder / f"{task}-{kind}-{start:06d}.npz", task, first + start, min(size, total - start),
                  kind != "episode") for start in range(0, total, size)]


def collect(folder: Path, tasks: list[str], episodes: int, stills: int, jobs: int, odd: int = 0) -> int:
    """Writes what is missing of a set and returns the number of shards written; shows progress."""
    return complete(folder, shards(folder, tasks, episodes, stills, odd), jobs)


def collect_plain(folder: Path, tasks: Sequence[str], episodes: int, passes: int, jobs: int) -> int:
    """As `collect`, of episodes as an evaluation shows them: `vla eval --seeds-from 1000000` begins with the first."""
    wanted = [replace(shard, passes=passes, plain=True) for shard in shards(folder, tasks, episodes, 0)]
    return complete(folder, wanted, jobs)


def collect_held_out(folder: Path, tasks: list[str], jobs: int) -> int:
    """Still scenes that nothing is trained on: what the stages are measured with."""
    each = -(-HELD_OUT_STILLS // len(tasks))
    return complete(folder, [s for task in tasks for s in split(
        folder, task, "held-out", FIRST_SEED + HELD_OUT_OFFSET, each, STILLS_A_SHARD)], jobs)


def complete(folder: Path, wanted: list[Shard], jobs: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    missing = [s for s in wanted if not s.file.exists()]
    total = sum(s.count for s in missing)
    if not missing:
        return 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool, tqdm(total=total, unit="episode") as bar:
        for shard in pool.imap_unordered(write, missing):
            bar.update(shard.count)
    return len(missing)


def write(shard: Shard) -> Shard:
    """Simulates and saves one shard."""
    task = get_task(shard.task)
    world = BulletWorld(load_profile(task.robot), task, cameras=(recording.CAMERA,))
    frames = []
    for seed in range(shard.seed, shard.seed + shard.count):
        for number in range(shard.passes):
            begin(world, seed, shard.plain, shard.odd)
            frames += [recording.frame(world, world.observe())] if shard.still else demonstrate(world, seed, number)
    world.close()
    recording.save(shard.file, frames)
    return shard


def begin(world: BulletWorld, seed: int, plain: bool = False, as_odd: bool = False) -> None:
    """The layout of a seed; but for `plain`, in part under another light or seen by a displaced camera."""
    rng, look = np.random.default_rng([seed, 3]), PLAIN
    if not plain and rng.random() < DISPLACED:
        look = displaced(rng, look)
    if not plain and rng.random() < LIT:
        look = lit(rng, look)
    scene = replace(world.task.layout(np.random.default_rng(seed)), seed=seed)
    world.lay_out(odd(scene, rng) if as_odd else scene, appearance=look)


def odd(scene: Scene, rng: np.random.Generator) -> Scene:
    """With things that are a cone or a cube in a colour that has no name, or are red or blue in a shape that has none:
    no set of pairs of colours and shapes, learnt by heart, could tell them.

    All of them: beside a blue cube a cone of nearly that colour would teach that cones are not blue.
    """
    return replace(scene, objects=tuple(
        thing if thing.shape not in MOVABLE else oddly_coloured(thing, rng) if rng.random() < TINTED else
        oddly_shaped(thing, rng) for thing in scene.objects))


def oddly_coloured(thing: SceneObject, rng: np.random.Generator) -> SceneObject:
    return replace(thing, colour=nameless(rng, thing.shape))


def oddly_shaped(thing: SceneObject, rng: np.random.Generator) -> SceneObject:
    """A pyramid or a prism, a slab, a rod or a disc, which have no name here, in any colour that has one; what was
    stretched is of none of HELD_OUT_PAIRS even before that."""
    colour = OBJECT_COLOURS[int(rng.integers(len(OBJECT_COLOURS)))]
    shape, sides = draw_until(lambda: FORMS[int(rng.integers(len(FORMS)))],
                              lambda form: form[1] or (form[0], colour) not in HELD_OUT_PAIRS)
    stretch = draw_until(lambda: rng.uniform(*(SQUEEZE if sides else STRETCH), 3),
                         lambda drawn: sides or drawn.max() >= UNEVEN * drawn.min())
    made = replace(thing, shape=shape, colour=colour, sides=sides, stretch=tuple(stretch.tolist()))
    return replace(made, position=(*thing.position[:2], made.half_height))


def nameless(rng: np.random.Generator, shape: str) -> str:
    """'#rrggbb' of a colour that has no name, and could not be taken for one that has, darker or brighter; least of
    all for one of those that HELD_OUT_PAIRS keep from the shape. Half of them are in the neighbourhood of one of those,
    where there is nothing else to learn the shape from."""
    named = BRIGHTNESSES[:, None, None] * [COLOURS[name] for name in OBJECT_COLOURS]
    kept = np.array([(shape, name) in HELD_OUT_PAIRS for name in OBJECT_COLOURS])
    apart, near = np.where(kept, UNSEEN, UNLIKE), kept.any() and rng.random() < NEARBY

    def fits(drawn: np.ndarray) -> bool:
        away = np.linalg.norm(named - drawn, axis=-1)
        return (away >= apart).all() and (not near or away[PLAINLY, kept].min() <= NEAR)
    return "#" + bytes(np.rint(255 * draw_until(lambda: rng.random(3), fits)).astype(int).tolist()).hex()


def demonstrate(world: BulletWorld, seed: int, number: int = 0) -> list[dict]:
    """Frames of one episode of the expert: decisions at uneven times, some of them replaced by a random motion, by
    the number of the pass."""
    rng = np.random.default_rng([seed, 1, number])
    policy, controller, profile = OraclePolicy(world), Controller(world.profile), world.profile
    frames, left = [], AFTERWARDS
    while world.stamp < world.task.time_limit * 1e9 and left:
        observation = world.observe()
        frames.append(recording.frame(world, observation))
        chunk = policy.infer(observation)
        if rng.random() < DISTURBED:
            chunk = disturbed(chunk, rng)
        controller.observe(world.joints())
        controller.accept(chunk)
        for _ in range(int(rng.integers(1, 5)) * profile.ticks_per_step):
            controller.observe(world.joints())
            world.step(controller.tick(world.stamp).command)
        left -= world.progress.success
    return frames


def disturbed(chunk: ActionChunk, rng: np.random.Generator) -> ActionChunk:
    """The same steady random motion in every step, of the size of the robot's own; the gripper mostly as it was."""
    values = np.array(chunk.values)
    if "gripper" in chunk.spec.names:
        values[:, :3] = rng.normal(0.0, 0.012, 3)
        if rng.random() < 0.3:
            values[:, 3] = rng.random()
    else:
        values[:] = rng.normal(0.0, [0.25, 0.5])
    return replace(chunk, values=values)
