"""Layouts, wordings and predicates."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from vla_ros.errors import UnknownNameError
from vla_ros.profile import load_profile
from vla_ros.sim.cameras import inside, project, rigid
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.task import DIRECTION_VECTORS, direction_vector
from vla_ros.sim.tasks.wordings import DIRECTIONS, TEMPLATES, instruction
from vla_ros.sim.world import COLOURS, SHAPES, WorldState

SEEDS = range(40)


@cache
def scenes(name):
    return [get_task(name).layout(np.random.default_rng(seed)) for seed in SEEDS]


def seen(scene, robot):
    """bool (M, 8): which corners of the objects the front camera sees."""
    profile = load_profile(robot)
    x, y, yaw = (0.0, 0.0, 0.0) if profile.kind == "arm" else scene.start
    c, s = np.cos(yaw), np.sin(yaw)
    pose = rigid([[c, -s, 0], [s, c, 0], [0, 0, 1]], [x, y, 0.0 if profile.kind == "arm" else 0.145])
    camera = profile.cameras["front"]
    return inside(*project(np.stack([o.corners() for o in scene.objects]), camera, pose), camera)


@pytest.mark.parametrize("name", TASKS)
def test_layouts(name):
    task = get_task(name)
    counts, shared = set(), 0
    for scene in scenes(name):
        kinds = [(o.shape, o.colour) for o in scene.objects]
        assert 2 <= len(kinds) <= 5 and len(set(kinds)) == len(kinds)
        assert all(shape in SHAPES and colour in COLOURS for shape, colour in kinds)
        places = np.array([o.position[:2] for o in scene.objects])
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + 10 * np.eye(len(places))
        assert apart.min() >= (0.11 if task.robot == "panda" else 0.5)
        assert seen(scene, task.robot).all()
        assert scene.objects[scene.target].words in scene.instruction
        assert scene.instruction == scene.instruction.lower()
        assert (scene.direction in DIRECTION_VECTORS) == (name == "push")
        counts.add(len(kinds))
        target = kinds[scene.target]
        shared += any((k[0] == target[0]) != (k[1] == target[1]) for k in kinds)
    assert counts == {2, 3, 4, 5}
    assert shared > 0.6 * len(SEEDS)  # distractors share the colour or the shape


def test_targets_are_any_of_the_objects():
    assert {scene.target for scene in scenes("pick")} == {0, 1, 2, 3, 4}
    assert {scene.direction for scene in scenes("push")} == set(DIRECTION_VECTORS)


def test_the_same_seed_lays_out_the_same():
    for task in TASKS.values():
        first, again = (task.layout(np.random.default_rng(9)) for _ in range(2))
        assert first == again != task.layout(np.random.default_rng(10))


def test_push_leaves_room():
    for scene in scenes("push"):
        target, vector = np.array(scene.objects[scene.target].position[:2]), direction_vector(scene.direction)
        for i, other in enumerate(scene.objects):
            along = np.clip((other.position[:2] - target) @ vector, -0.07, 0.12)
            assert i == scene.target or np.linalg.norm(other.position[:2] - target - along * vector) >= 0.11


def test_wordings():
    rng = np.random.default_rng(0)
    assert set(TEMPLATES) == set(TASKS) and set(DIRECTIONS) == set(DIRECTION_VECTORS)
    for family, templates in TEMPLATES.items():
        assert len(set(templates)) >= 8
        assert all(t == t.lower() and "{o}" in t and ("{d}" in t) == (family == "push") for t in templates)
    made = {instruction("push", "red cube", "left", rng) for _ in range(300)}
    assert len(made) == len(TEMPLATES["push"]) * len(DIRECTIONS["left"])


def test_an_unknown_task_lists_the_known():
    with pytest.raises(UnknownNameError, match="did you mean 'push'"):
        get_task("pusch")


def state_of(scene, **changes):
    objects = np.array([o.position for o in scene.objects])
    count = len(objects)
    state = WorldState(0, objects, np.tile([0.0, 0, 0, 1], (count, 1)), np.zeros(count, bool), np.array([0.5, 0, 0.3]),
                       0.04, np.zeros(3), np.zeros(2))
    return replace(state, **changes)


def test_push_wants_the_direction():
    scene = replace(scenes("push")[0], direction="left")
    start, task = state_of(scene), get_task("push")

    def judged(offset):
        objects = start.objects.copy()
        objects[scene.target] += offset
        return task.progress(start, replace(start, objects=objects), scene)

    assert judged([0, 0.081, 0]) == (0.0, True)
    assert judged([0, 0.06, 0]) == (pytest.approx(0.02), False)
    assert not judged([0, -0.081, 0])[1] and not judged([0.06, 0.09, 0])[1] and not judged([0, 0.09, -0.3])[1]


def test_pick_wants_the_object_in_the_hand():
    scene, task = scenes("pick")[0], get_task("pick")
    start = state_of(scene)
    up = start.objects.copy()
    up[scene.target, 2] += 0.06
    assert task.progress(start, replace(start, objects=up, ee=up[scene.target]), scene)[1]
    assert not task.progress(start, replace(start, objects=up), scene)[1]
    assert not task.progress(start, start, scene)[1]


def test_drive_wants_rest_in_front_of_it():
    scene, task = scenes("drive")[0], get_task("drive")
    thing = scene.objects[scene.target]
    heading = np.arctan2(thing.position[1], thing.position[0])
    away = np.array(thing.position[:2]) - (0.7 + thing.size / 2) * np.array([np.cos(heading), np.sin(heading)])
    there = state_of(scene, base=np.array([*away, heading]))
    touched = there.touched.copy()
    touched[scene.target] = True
    assert task.progress(there, there, scene)[1]
    assert not task.progress(there, replace(there, twist=np.array([0.1, 0.0])), scene)[1]
    assert not task.progress(there, replace(there, base=np.array([*away, heading + 0.3])), scene)[1]
    assert not task.progress(there, replace(there, touched=touched), scene)[1]
    assert not task.progress(there, replace(there, base=np.zeros(3)), scene)[1]
