"""Layouts, wordings and predicates."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from vla_ros.errors import UnknownNameError
from vla_ros.profile import load_profile
from vla_ros.referring import by_kind, by_place
from vla_ros.sim.cameras import inside, project, rigid
from vla_ros.sim.motion import home_position
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.away import meets
from vla_ros.sim.tasks.next_to import beside
from vla_ros.sim.tasks.task import DIRECTION_VECTORS, RELATION_VECTORS, direction_vector
from vla_ros.sim.tasks.wordings import SPATIAL, wording
from vla_ros.sim.world import CONTAINERS, FLAT_TOPS, MOVABLE, OBJECT_COLOURS, RELATIONS, SceneObject, WorldState

SEEDS = range(80)


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


def movable(scene):
    return [o for o in scene.objects if o.shape in MOVABLE]


def named(scene):
    """The objects that the instruction is about."""
    return [scene.objects[i] for i in (scene.target, scene.reference) if i >= 0]


def phrases(objects, index, spatial):
    """Everything that names one object and no other."""
    kinds, places = [(o.shape, o.colour) for o in objects], np.array([o.position[:2] for o in objects])
    placed = [phrase.text for group in by_place(kinds, places, index) for phrase in group] if spatial else []
    return {text for group in by_kind(kinds, index) for text in group} | set(placed)


@pytest.mark.parametrize("name", TASKS)
def test_layouts(name):
    task, counts, shared = get_task(name), set(), 0
    arm = task.robot == "panda"
    shapes, colours = (MOVABLE, OBJECT_COLOURS) if arm else (MOVABLE[:3], OBJECT_COLOURS[:6])
    for scene in scenes(name):
        kinds = [(o.shape, o.colour) for o in movable(scene)]
        assert 1 <= len(kinds) <= 6 and 2 <= len(scene.objects) <= 8 and len(set(kinds)) == len(kinds)
        assert all(shape in shapes and colour in colours for shape, colour in kinds)
        containers = [o.shape for o in scene.objects if o.shape in CONTAINERS]
        assert len(set(containers)) == len(containers) and (arm or not containers)
        assert seen(scene, task.robot).all()
        for i in (scene.target, scene.reference):
            assert i < 0 or any(p in scene.instruction for p in phrases(scene.objects, i, name in SPATIAL))
        assert (scene.direction in DIRECTION_VECTORS) == (name == "push")
        counts.add(len(kinds))
        first = kinds[movable(scene).index(scene.objects[scene.target])] if scene.target >= 0 else kinds[0]
        shared += any((k[0] == first[0]) != (k[1] == first[1]) for k in kinds)
    assert counts >= ({2, 3, 4, 5} if arm else {2, 3, 4})  # a fifth hardly ever finds room on the ground
    assert shared > 0.5 * len(SEEDS)  # distractors share the colour or the shape


@pytest.mark.parametrize("name", TASKS)
def test_objects_keep_apart(name):
    arm = get_task(name).robot == "panda"
    for scene in scenes(name):
        for i, a in enumerate(scene.objects):
            for b in scene.objects[:i]:
                containers = (a.shape in CONTAINERS) + (b.shape in CONTAINERS)
                least = (0.11, 0.125, 0.155)[containers] if arm else 0.5
                x, y = np.abs(np.subtract(a.position, b.position))[:2]
                assert np.hypot(x, y) >= least and not (arm and x < 0.06 and y < 0.14)


def test_containers_are_also_there_unasked():
    asked = [s for name in ("reach", "stack", "home", "next_to") for s in scenes(name)]
    share = np.mean([any(o.shape in CONTAINERS for o in scene.objects) for scene in asked])
    assert 0.2 < share < 0.4
    assert any({o.shape for o in scene.objects} >= set(CONTAINERS) for scene in scenes("place"))


def test_relations_fit_their_families():
    wanted = {"place": {"in"}, "next_to": {"next to", *RELATION_VECTORS}, "stack": {"on top of"}}
    for name, task in TASKS.items():
        assert {scene.relation for scene in scenes(name)} == wanted.get(name, {""})
        for scene in scenes(name):
            assert (scene.reference >= 0) == (name in wanted) and (scene.target < 0) == (name in ("home", "stop"))
            if name in wanted:
                target, reference = named(scene)
                assert target.shape in MOVABLE and (reference.shape in CONTAINERS) == (name == "place")
                start = state_of(scene)
                assert not task.progress(start, start, scene)[1]
            if name == "stack":
                assert target.shape != "ball" and reference.shape in FLAT_TOPS
    assert set(RELATIONS) == {"", "in", "next to", *RELATION_VECTORS, "on top of"}


def test_next_to_leaves_room_at_the_goal():
    for scene in scenes("next_to"):
        target, reference = (np.array(o.position[:2]) for o in named(scene))
        goal = beside(reference, target, scene.relation)
        for i, other in enumerate(scene.objects):
            x, y = np.abs(goal - other.position[:2])
            assert i in (scene.target, scene.reference) or (np.hypot(x, y) >= 0.11 and not (x < 0.06 and y < 0.14))
        assert (goal > [0.36, -0.2]).all() and (goal < [0.66, 0.2]).all()
        assert np.linalg.norm(target - reference) > 0.14


def test_starts():
    for scene in scenes("away"):
        thing, start = scene.objects[scene.target], np.array(scene.start[:3])
        offset = start - thing.position
        assert np.linalg.norm(offset) <= 0.08 + 1e-9 and offset[2] > thing.half_height + 0.01
        assert not any(meets(start, other) for other in scene.objects)
    assert min(np.linalg.norm(np.subtract(s.start[:3], home_position())) for s in scenes("home")) > 0.1


def test_open_fingers_are_not_to_begin_in_an_object():
    thing = SceneObject("cylinder", "red", 0.05, (0.5, 0.1, 0.036))
    assert meets(np.array([0.5, 0.05, 0.06]), thing) and meets(np.array([0.52, 0.02, 0.03]), thing)
    assert not meets(np.array([0.5, 0.05, 0.09]), thing) and not meets(np.array([0.55, 0.1, 0.06]), thing)
    assert not meets(np.array([0.5, 0.0, 0.06]), thing)


def test_targets_are_any_of_the_objects():
    assert {scene.target for scene in scenes("pick")} >= {0, 1, 2, 3, 4}
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


THINGS = (SceneObject("tray", "grey", 0.13, (0.6, 0.0, 0.01)), SceneObject("cube", "red", 0.05, (0.5, 0.15, 0.03)),
          SceneObject("cube", "blue", 0.05, (0.5, -0.15, 0.03)))


def said(family, target, reference=-1, key=""):
    rng = np.random.default_rng(0)
    return {wording(rng, family, THINGS, target, reference, key) for _ in range(400)}


@pytest.mark.parametrize("family, target, reference, key", [
    ("reach", 1, -1, ""), ("push", 2, -1, "left"), ("place", 1, 0, "in"), ("next_to", 2, 1, "behind"),
    ("stack", 2, 1, "on top of"), ("stop", -1, -1, "")])
def test_wordings_name_what_the_scene_is_about(family, target, reference, key):
    texts = said(family, target, reference, key)
    assert len(texts) > 100 and not any("{" in text for text in texts)
    for index in (target, reference):
        assert index < 0 or all(any(p in t for p in phrases(THINGS, index, family in SPATIAL)) for t in texts)


def test_only_what_stays_there_is_named_by_its_place():
    beside = ("near the tray", "in front of the tray", "on the left", "leftmost")
    assert any(words in text for text in said("reach", 1) for words in beside)
    assert not any(words in text for text in said("push", 1, key="right") for words in beside)


def test_wordings_may_come_from_elsewhere():
    rng = np.random.default_rng(0)
    assert wording(rng, "home", THINGS, templates={"home": ("sweet home",)}) == "sweet home"


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


def moved(scene, start, position, **changes):
    """The start with the target elsewhere, let go unless `changes` say otherwise."""
    objects = start.objects.copy()
    objects[scene.target] = position
    return replace(start, objects=objects, **({"gap": 0.08} | changes))


@pytest.mark.parametrize("name", ["place", "stack"])
def test_what_lies_on_it_counts_when_let_go(name):
    scene, task = scenes(name)[0], get_task(name)
    start, (target, reference) = state_of(scene), named(scene)
    top = np.array(reference.position) + [0, 0, reference.support_height + target.half_height]

    def judged(offset, **changes):
        return task.progress(start, moved(scene, start, top + offset, **changes), scene)

    assert judged([0, 0, 0]) == (0.0, True) and judged([0.01, -0.01, 0.002])[1]
    assert judged([0, 0, 0], gap=0.0)[1]  # closed, but far away
    assert not judged([0, 0, 0], gap=target.size, ee=top)[1]  # still in the hand
    assert not judged([0, 0, 0.02])[1] and not judged([0, 0, -0.012])[1] and not judged([0.05, 0, 0])[1]
    assert judged([0, 0.06, 0])[0] < judged([0, 0.16, 0])[0]


def test_next_to_wants_the_side():
    scene, task = replace(scenes("next_to")[0], relation="left of"), get_task("next_to")
    start, (target, reference) = state_of(scene), named(scene)
    beside_it = np.array([*reference.position[:2], target.half_height])

    def judged(offset, scene=scene, **changes):
        return task.progress(start, moved(scene, start, beside_it + offset, **changes), scene)[1]

    assert judged([0, 0.08, 0]) and judged([0.04, 0.08, 0]) and judged([0, 0.06, 0])
    assert not judged([0.07, 0.07, 0]) and not judged([0, -0.08, 0]) and not judged([0, 0.12, 0])
    assert not judged([0, 0.08, 0.03]) and not judged([0, 0.03, 0])
    assert not judged([0, 0.08, 0], gap=target.size * 0.7, ee=beside_it + [0, 0.08, 0])
    sides = {"right of": [0, -0.08, 0], "in front of": [-0.08, 0, 0], "behind": [0.08, 0, 0]}
    for relation, offset in sides.items():
        assert [judged(o, replace(scene, relation=relation)) for o in sides.values()].count(True) == 1
        assert judged(offset, replace(scene, relation=relation)) and judged(offset, replace(scene, relation="next to"))


def test_away_home_and_stop_are_about_the_hand():
    scene, task = scenes("away")[0], get_task("away")
    start = state_of(scene)
    centre = np.array(scene.objects[scene.target].position)
    assert task.progress(start, replace(start, ee=centre + [0, 0.1, 0.16]), scene) == (0.0, True)
    assert task.progress(start, replace(start, ee=centre + [0, 0, 0.1]), scene) == (pytest.approx(0.08), False)
    scene, task = scenes("home")[0], get_task("home")
    assert task.progress(start, replace(start, ee=home_position() + [0.02, 0, 0]), scene)[1]
    assert not task.progress(start, replace(start, ee=home_position() + [0.02, 0.02, 0]), scene)[1]
    scene, task = scenes("stop")[0], get_task("stop")
    assert task.progress(start, replace(start, ee=start.ee + [0, 0, 0.015]), scene) == (pytest.approx(0.015), True)
    assert not task.progress(start, replace(start, ee=start.ee + [0, 0, 0.025]), scene)[1]
    assert 2 * task.hold > task.time_limit  # a motion leaves no time to hold still afterwards


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
