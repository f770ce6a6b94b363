"""How a scene looks to its cameras, beside where things are: displaced cameras, other light, other surfaces."""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_ros.profile import Camera
from vla_ros.sim.cameras import camera_from_parent, inverse, rigid

if TYPE_CHECKING:
    from vla_ros.sim.engine import Engine

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Appearance:
    """shift [m] and turn (rotation vector [rad]): of every camera, from where its profile mounts it, optical frame.

    light: direction towards it; light_colour: RGB; ambient, diffuse: shares of the light. surface: RGB of the table or
    the ground, None for its own; texture: seed of a pattern on it, None for a plain one.
    """

    shift: Vector = (0.0, 0.0, 0.0)
    turn: Vector = (0.0, 0.0, 0.0)
    light: Vector = (0.6, 0.4, 2.0)
    light_colour: Vector = (1.0, 1.0, 1.0)
    ambient: float = 0.6
    diffuse: float = 0.35
    surface: Vector | None = None
    texture: int | None = None

    def mounting(self, camera: Camera, world_from_parent: np.ndarray) -> np.ndarray:
        """world_from_parent (4, 4) under which a camera mounted by its profile stands where this one does."""
        if not any(self.shift) and not any(self.turn):
            return world_from_parent
        camera_from = camera_from_parent(camera)
        return world_from_parent @ inverse(camera_from) @ rigid(rotation(self.turn), self.shift) @ camera_from


PLAIN = Appearance()
SHIFT, TURN = 0.03, np.radians(5.0)  # [m], [rad] that a camera is displaced at most


def displaced(rng: np.random.Generator, look: Appearance = PLAIN) -> Appearance:
    """Every camera moved and turned at random, by up to SHIFT and TURN."""
    return replace(look, shift=random_vector(rng, SHIFT), turn=random_vector(rng, TURN))


def lit(rng: np.random.Generator, look: Appearance = PLAIN) -> Appearance:
    """Another light, and another colour and pattern of what things stand on."""
    return replace(look, light=(*rng.uniform(-1.5, 1.5, 2).tolist(), 2.0), light_colour=tuple(rng.uniform(0.8, 1, 3)),
                   ambient=rng.uniform(0.4, 0.7), diffuse=rng.uniform(0.2, 0.6),
                   surface=tuple(rng.uniform(0.5, 0.95) * rng.uniform(0.8, 1, 3)), texture=int(rng.integers(2**31)))


def random_vector(rng: np.random.Generator, longest: float) -> Vector:
    """Of a random direction, and a length up to `longest`."""
    direction = rng.normal(size=3)
    return tuple((rng.uniform(0, longest) * direction / np.linalg.norm(direction)).tolist())


def rotation(vector: Vector) -> np.ndarray:
    """(3, 3) about `vector` by its length [rad], after Rodrigues."""
    angle = float(np.linalg.norm(vector))
    x, y, z = np.asarray(vector) / max(angle, 1e-12)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pattern(seed: int, size: int = 256) -> np.ndarray:
    """uint8 (size, size, 3): a checker of random scale and contrast under coarse noise, bright enough to tint."""
    rng = np.random.default_rng(seed)
    cell, contrast = 2 ** int(rng.integers(3, 7)), rng.uniform(0.05, 0.25)
    ij = np.arange(size) // cell
    checker = (ij[:, None] + ij[None]) % 2 * contrast
    coarse = rng.uniform(-0.1, 0.1, (size // 8, size // 8, 3))
    noise = np.kron(coarse, np.ones((8, 8, 1)))
    return (255 * np.clip(1 - checker[..., None] - 0.1 + noise, 0, 1)).astype(np.uint8)


def dress(engine: Engine, surface: int, appearance: Appearance) -> None:
    """Gives the table or the ground the colour and the pattern of an appearance; its own where that has none."""
    if appearance.surface is not None:
        engine.changeVisualShape(surface, -1, rgbaColor=(*appearance.surface, 1.0))
    if appearance.texture is None:
        return
    image = pattern(appearance.texture)
    with tempfile.TemporaryDirectory() as folder:  # PyBullet reads textures from files alone
        file = Path(folder) / "texture.tga"
        height, width, _ = image.shape
        header = struct.pack("<3B5x4H2B", 0, 0, 2, 0, 0, width, height, 24, 0)  # uncompressed, 24 bits a pixel, BGR
        file.write_bytes(header + image[..., ::-1].tobytes())
        engine.changeVisualShape(surface, -1, textureUniqueId=engine.loadTexture(str(file)))
