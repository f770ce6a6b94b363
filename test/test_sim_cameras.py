"""Camera maths, and that the renderer agrees with it."""

import numpy as np
import pytest

from vla_ros.profile import Camera, load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.cameras import camera_from_parent, inside, intrinsics, inverse, look_at, project, rigid

CAMERA = Camera(width=80, height=60, fov_deg=50.0, parent="base", position=(1.0, 0.2, 0.8), look_at=(0.3, 0.0, 0.0))


def test_the_point_looked_at_is_the_image_centre():
    pixel, depth = project(CAMERA.look_at, CAMERA, np.eye(4))
    np.testing.assert_allclose(pixel, [39.5, 29.5], atol=1e-9)
    assert depth == pytest.approx(np.linalg.norm(np.subtract(CAMERA.position, CAMERA.look_at)))


def test_optical_convention():
    """x right, y down, z forward: seen from in front of the base, its left (+y) is on the right."""
    camera = Camera(80, 60, 50.0, "base", (1.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    left, _ = project([0.0, 0.1, 0.0], camera, np.eye(4))
    up, _ = project([0.0, 0.0, 0.1], camera, np.eye(4))
    assert left[0] > 39.5 and up[1] < 29.5


def test_transforms_are_rigid_and_inverse():
    for eye, target in (((1, 2, 3), (0, 0, 0)), ((0, 0, 1), (0, 0, 0)), ((0.07, 0, 0.04), (0.02, 0, 0.15))):
        transform = look_at(eye, target)
        np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(transform[:3, :3]) == pytest.approx(1.0)
        np.testing.assert_allclose(inverse(transform) @ transform, np.eye(4), atol=1e-12)
        np.testing.assert_allclose(transform @ [*eye, 1], [0, 0, 0, 1], atol=1e-12)


def test_a_moved_parent_moves_the_camera():
    pose = rigid([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [0.5, 0.5, 0.1])
    points = np.random.default_rng(0).normal(size=(7, 3))
    moved = points @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(project(moved, CAMERA, pose)[0], project(points, CAMERA, np.eye(4))[0], atol=1e-8)


def test_inside_and_behind():
    pixels, depth = project([CAMERA.look_at, (2.0, 0.5, 1.6), (0.3, 2.0, 0.0)], CAMERA, np.eye(4))
    assert inside(pixels, depth, CAMERA).tolist() == [True, False, False]
    assert intrinsics(CAMERA)[0, 0] == pytest.approx(30 / np.tan(np.radians(25)))
    assert camera_from_parent(CAMERA).shape == (4, 4)


@pytest.mark.parametrize("robot", ["panda", "husky"])
def test_projection_agrees_with_rendering(robot):
    """The middle of an object's pixels lies where its volume projects to, without bias and to less than a pixel."""
    world, errors = BulletWorld(load_profile(robot)), []
    for seed in range(6):
        world.reset(seed)
        for name, camera in world.profile.cameras.items():
            mask, pose = world.mask(name), world.link_pose(camera.parent)
            for i, thing in enumerate(world.scene.objects):
                if thing.shape != "cube":
                    continue
                drawn, expected = np.argwhere(mask == i)[:, ::-1], silhouette(thing, camera, pose)
                edge = [camera.width - 2, camera.height - 2]
                whole = len(expected) > 0 and expected.min() > 1 and (expected < edge).all()
                if whole and len(drawn) > 0.6 * len(expected):  # else hidden in part
                    errors.append(drawn.mean(axis=0) - expected.mean(axis=0))
    world.close()
    assert len(errors) >= 5
    assert np.abs(errors).max() < 1.0 and np.abs(np.mean(errors, axis=0)).max() < 0.25


def silhouette(thing, camera, pose):
    """(P, 2) pixels onto which points of a cube project."""
    grid = np.linspace(-0.5, 0.5, 21)
    points = np.stack(np.meshgrid(grid, grid, grid), -1).reshape(-1, 3) * thing.size
    c, s = np.cos(thing.yaw), np.sin(thing.yaw)
    pixels, depth = project(points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + thing.position, camera, pose)
    return np.unique(np.round(pixels).astype(int), axis=0) if (depth > 0.05).all() else np.zeros((0, 2), int)


def test_a_camera_never_delivers_the_same_picture_twice_but_at_the_same_moment():
    world = BulletWorld(load_profile("panda"), cameras=("front",))
    world.reset(3)
    first, again = world.observe().images["front"], world.observe().images["front"]
    world.step(None)
    later = world.observe().images["front"].astype(int)
    assert np.array_equal(first, again) and 0.3 < (later != first).mean() < 0.7
    assert np.quantile(np.abs(later - first), 0.99) == 1, "noise of one grey level"
    world.reset(3)
    assert np.array_equal(world.observe().images["front"], first), "bit for bit"
    world.close()
