"""Appearances: displaced cameras by their geometry, light and surfaces by their pixels, and nothing left behind."""

from dataclasses import replace

import numpy as np
import pytest
from core_samples import PANDA
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.sim.appearance import PLAIN, Appearance, pattern, rotation
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.cameras import camera_from_parent, inverse, project
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.tasks import TASKS

VECTOR = st.tuples(*[st.floats(-0.5, 0.5)] * 3)
FRONT = PANDA.cameras["front"]


@pytest.fixture(scope="module")
def world():
    made = BulletWorld(PANDA, cameras=("front",))
    yield made
    made.close()


@given(VECTOR, VECTOR)
def test_a_camera_moves_by_its_shift_and_turns_by_its_turn(shift, turn):
    """In its own optical frame, wherever it is mounted."""
    mounted = Appearance(shift=shift, turn=turn).mounting(FRONT, np.eye(4))
    moved = camera_from_parent(FRONT) @ mounted @ inverse(camera_from_parent(FRONT))  # old camera from new one
    np.testing.assert_allclose(moved[:3, 3], shift, atol=1e-9)
    np.testing.assert_allclose(moved[:3, :3], rotation(turn), atol=1e-9)
    angle = np.arccos(np.clip((np.trace(moved[:3, :3]) - 1) / 2, -1, 1))
    assert angle == pytest.approx(np.linalg.norm(turn), abs=1e-6)
    np.testing.assert_allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("look", [
    Appearance(shift=(0.03, 0, 0)), Appearance(turn=(0, 0, 0.08)), Appearance(light=(-1.0, 1.0, 1.0)),
    Appearance(light_colour=(1.0, 0.8, 0.7)), Appearance(ambient=0.4), Appearance(diffuse=0.6),
    Appearance(surface=(0.3, 0.4, 0.5)), Appearance(texture=1)], ids=repr)
def test_each_part_of_an_appearance_is_seen_and_ends_with_its_episode(world, look):
    world.reset(3, TASKS["pick"])
    plain, scene, state = world.observe().images["front"], world.scene, world.state
    world.lay_out(scene, appearance=look)
    changed = world.observe().images["front"]
    assert (changed != plain).any()
    np.testing.assert_array_equal(world.state.objects, state.objects)
    world.lay_out(scene, appearance=look)
    np.testing.assert_array_equal(world.observe().images["front"], changed)
    world.reset(3, TASKS["pick"])
    np.testing.assert_array_equal(world.observe().images["front"], plain)


def test_a_texture_covers_the_table_and_not_the_objects(world):
    world.reset(3, TASKS["pick"])
    plain, on_object = world.observe().images["front"], world.mask("front") >= 0
    world.lay_out(world.scene, appearance=Appearance(texture=5))
    changed = (world.observe().images["front"] != plain).any(axis=2)
    assert not changed[on_object].any() and changed[~on_object].mean() > 0.5


@pytest.mark.parametrize("kind", [BulletWorld, MockWorld])
def test_both_worlds_see_through_a_moved_camera(kind):
    world = kind(PANDA, cameras=("front",))
    world.reset(3, TASKS["pick"])
    plain = world.observe().images["front"]
    world.lay_out(world.scene, appearance=replace(PLAIN, shift=(0.03, 0.0, 0.0)))
    assert (world.observe().images["front"] != plain).any()
    world.close()


def test_pixels_agree_with_the_image_of_a_moved_camera(world):
    """But for objects that are cut by the image's border or lie behind the hand."""
    world.reset(3, TASKS["pick"])
    world.lay_out(world.scene, appearance=Appearance(shift=(0.03, -0.02, 0.01), turn=(0.05, -0.04, 0.06)))
    mask, pixels = world.mask("front"), world.pixels("front", world.state.objects)
    seen = [np.argwhere(mask == i).mean(axis=0)[::-1] for i in range(len(pixels))]
    errors, moved = np.linalg.norm(seen - pixels, axis=1), pixels - project_plain(world)
    assert np.median(errors) < 2 and np.linalg.norm(moved, axis=1).min() > 5


def project_plain(world) -> np.ndarray:
    """(M, 2) [px] of the objects, were the camera where its profile says."""
    return project(world.state.objects, FRONT, world.link_pose(FRONT.parent))[0]


@given(st.integers(0, 2**31))
def test_patterns_are_bright_and_their_seeds_decide(seed):
    image = pattern(seed)
    assert image.dtype == np.uint8 and image.shape == (256, 256, 3) and image.mean() > 120
    np.testing.assert_array_equal(image, pattern(seed))
    assert (image != pattern(seed + 1)).any()
