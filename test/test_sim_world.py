"""The contract of a World, held against every implementation and every task."""

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.control import Controller
from vla_ros.errors import SimulationError, UnknownNameError
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.world import Scene, World
from vla_ros.types import JointCommand, TwistCommand

KINDS = {"bullet": BulletWorld, "mock": MockWorld}


@pytest.fixture(scope="module", params=[(k, r) for k in KINDS for r in ("panda", "husky")], ids="-".join)
def world(request):
    kind, robot = request.param
    world = KINDS[kind](load_profile(robot))
    yield world
    world.close()


def tasks_of(world):
    return [task for task in TASKS.values() if task.robot == world.profile.name]


def trace(world, seed, task, ticks=40):
    """Everything that a world shows during the first ticks of an oracle's episode, as bytes."""
    world.reset(seed, task)
    policy, controller, seen = OraclePolicy(world), Controller(world.profile), []
    for tick in range(ticks):
        controller.observe(world.joints())
        if tick % 12 == 0:
            observation = world.observe()
            seen += [image.tobytes() for image in observation.images.values()]
            controller.accept(policy.infer(observation))
        world.step(controller.tick(world.stamp).command)
        seen.append(world.state.objects.tobytes() + np.array(list(world.joints().positions.values())).tobytes())
    return seen


def test_observation_is_complete(world):
    profile = world.profile
    for task in tasks_of(world):
        world.reset(3, task)
        for _ in range(3):
            world.step(None)
        assert isinstance(world, World) and isinstance(world.scene, Scene) and world.task is task
        assert world.stamp == round(3e9 / profile.control_rate)
        seen = world.observe()
        assert set(seen.images) == set(profile.cameras) and set(seen.stamps) == {"joints", *profile.cameras}
        assert set(seen.stamps.values()) == {world.stamp} == {seen.joints.stamp}
        assert seen.instruction == world.scene.instruction != ""
        assert set(profile.joints) <= set(seen.joints.positions) == set(seen.joints.velocities)
        for name, camera in profile.cameras.items():
            image = seen.images[name]
            assert image.shape == (camera.height, camera.width, 3) and image.dtype == np.uint8 and image.std() > 1
        check_robot(seen, world)


def check_robot(seen, world):
    state, count = world.state, len(world.scene.objects)
    assert state.objects.shape == (count, 3) and state.quaternions.shape == (count, 4)
    assert state.touched.shape == (count,) and state.touched.dtype == bool and not state.touched.any()
    if world.profile.kind == "arm":
        np.testing.assert_allclose(seen.ee_pose.position, state.ee, atol=1e-9)
        np.testing.assert_allclose(state.ee, world.scene.start[:3], atol=2e-3)
        assert seen.gripper == pytest.approx(world.scene.start[3], abs=1e-3) and seen.base_twist is None
    else:
        assert seen.ee_pose is None and seen.gripper is None and abs(seen.base_twist[0]) < 0.01
        np.testing.assert_allclose(state.base, world.scene.start, atol=2e-3)


def test_same_seed_same_episode_whatever_ran_before(world):
    for task in tasks_of(world):
        fresh = type(world)(world.profile)
        first = trace(fresh, 11, task)
        fresh.close()
        trace(world, 12, tasks_of(world)[0], ticks=15)
        assert trace(world, 11, task) == first
        assert trace(world, 13, task, ticks=1) != first[:len(world.profile.cameras) + 1]


def test_worlds_do_not_disturb_each_other(world):
    task, other = tasks_of(world)[0], type(world)(world.profile)
    alone = trace(world, 4, task, ticks=10)
    world.reset(4, task)
    other.reset(5, task)
    other.step(None)
    other.close()
    assert trace(world, 4, task, ticks=10) == alone


def test_commands_move_the_robot(world):
    world.reset(1)
    if world.profile.kind == "base":
        for _ in range(60):
            world.step(TwistCommand(0.3, 0.0))
        assert np.hypot(*world.state.base[:2]) == pytest.approx(0.3, abs=0.03)
        assert world.observe().base_twist[0] == pytest.approx(0.3, abs=0.02)
        for _ in range(30):
            world.step(None)
        np.testing.assert_allclose(world.state.twist, 0.0, atol=0.02)
        return
    joint = world.profile.joints[0]
    start = world.joints().positions[joint]
    for k in range(30):
        world.step(JointCommand({joint: start + 0.01 * (k + 1)}))
    for _ in range(6):
        world.step(None)
    assert world.joints().positions[joint] == pytest.approx(start + 0.3, abs=2e-3)
    for _ in range(30):
        world.step(JointCommand({}, {joint: -0.3}))
    assert world.joints().positions[joint] == pytest.approx(start + 0.15, abs=0.02)


def test_success_is_counted_in_held_ticks_and_stays(world):
    task = tasks_of(world)[0]
    world.reset(2, task)
    satisfied = []
    policy, controller = OraclePolicy(world), Controller(world.profile)
    while not world.progress.success:
        controller.observe(world.joints())
        if len(satisfied) % 24 == 0:
            controller.accept(policy.infer(world.observe()))
        world.step(controller.tick(world.stamp).command)
        satisfied.append(world.progress.satisfied)
        assert len(satisfied) < task.time_limit * world.profile.control_rate
    held = round(task.hold * world.profile.control_rate)
    assert all(satisfied[-held:]) and world.progress.distance >= 0
    world.reset(2, task)
    assert not world.progress.success


def test_a_camera_less_world_observes_joints(world):
    blind = type(world)(world.profile, cameras=())
    blind.reset(0)
    assert blind.observe().images == {} and set(blind.observe().stamps) == {"joints"}
    blind.close()


def test_closing_twice_is_fine(world):
    short = type(world)(world.profile)
    short.reset(0)
    short.close()
    short.close()


def test_what_cannot_be_is_refused(world):
    with pytest.raises(UnknownNameError, match="front"):
        type(world)(world.profile, cameras=("rear",))
    foreign = get_task("drive" if world.profile.kind == "arm" else "pick")
    with pytest.raises(SimulationError, match=foreign.robot):
        world.reset(0, foreign)
    with pytest.raises(SimulationError, match="reset"):
        _ = type(world)(world.profile).scene


def test_unknown_visuals_are_refused():
    with pytest.raises(UnknownNameError, match="detailed"):
        BulletWorld(load_profile("panda"), visuals="pretty")


@pytest.mark.parametrize("kind", KINDS)
def test_objects_rest_where_they_were_laid(kind):
    """Every shape stands on the table by itself, and on what can carry it; containers do not move."""
    world = KINDS[kind](load_profile("panda"), cameras=())
    for seed in range(6):
        world.reset(seed, get_task("place"))
        scene = world.scene
        lower, upper = scene.objects[scene.reference], scene.objects[scene.target]
        on_it = (*lower.position[:2], lower.position[2] + lower.support_height + upper.half_height)
        laid = replace(scene, objects=tuple(replace(o, position=on_it) if i == scene.target else o
                                            for i, o in enumerate(scene.objects)))
        for start in (scene, laid):
            world.lay_out(start)
            for _ in range(60):
                world.step(None)
            np.testing.assert_allclose(world.state.objects, [o.position for o in start.objects], atol=2e-3)
            np.testing.assert_array_equal(world.state.objects[scene.reference], lower.position)
    world.close()
