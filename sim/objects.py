"""Bodies of the scene: the objects, and what they stand on."""

from __future__ import annotations

import numpy as np
import pybullet_data

from vla_ros.sim.engine import Engine
from vla_ros.sim.meshes import SIDES, boxes_mesh, frustum_mesh, rims
from vla_ros.sim.world import COLOURS, CONE_TOP, CONTAINERS, TRAY, SceneObject

TABLE_RGBA = (0.80, 0.76, 0.70, 1.0)
GROUND_RGBA = (0.62, 0.64, 0.62, 1.0)
TABLE = ((0.45, 0.0), (0.60, 0.60), 0.05)  # [m] centre, half extents, thickness; the top is z = 0
TABLE_HEIGHT = 0.62  # [m] of pybullet_data's table
DENSITY = 800.0  # [kg/m^3]
GROUND_DENSITY = 60.0  # [kg/m^3] hollow: a robot that touches one moves it, and does not stop dead


def add_table(engine: Engine, visuals: str) -> int:
    (x, y), (half_x, half_y), thickness = TABLE
    half = [half_x, half_y, thickness / 2]
    shape = engine.createCollisionShape(engine.GEOM_BOX, halfExtents=half)
    look = engine.createVisualShape(engine.GEOM_BOX, halfExtents=half, rgbaColor=TABLE_RGBA)
    if visuals == "detailed":
        add_room(engine, x, y)
    body = engine.createMultiBody(0, shape, look, basePosition=[x, y, -thickness / 2])
    engine.changeDynamics(body, -1, lateralFriction=0.35, rollingFriction=0.002, spinningFriction=0.002)
    return body


def add_room(engine: Engine, x: float, y: float) -> None:
    """For people to look at: the legs of a table, and a floor."""
    half = [0.04, 0.04, TABLE_HEIGHT / 2]
    leg = engine.createVisualShape(engine.GEOM_BOX, halfExtents=half, rgbaColor=(0.5, 0.4, 0.3, 1))
    for dx in (-0.5, 0.5):
        for dy in (-0.5, 0.5):
            engine.createMultiBody(0, -1, leg, basePosition=[x + dx, y + dy, -0.05 - TABLE_HEIGHT / 2])
    engine.loadURDF(f"{pybullet_data.getDataPath()}/plane.urdf", [0, 0, -TABLE_HEIGHT - 0.05], useFixedBase=True)


def add_ground(engine: Engine, visuals: str) -> int:
    if visuals == "detailed":
        return engine.loadURDF(f"{pybullet_data.getDataPath()}/plane.urdf", useFixedBase=True)
    half = [20, 20, 0.5]
    shape = engine.createCollisionShape(engine.GEOM_BOX, halfExtents=half)
    look = engine.createVisualShape(engine.GEOM_BOX, halfExtents=half, rgbaColor=GROUND_RGBA)
    body = engine.createMultiBody(0, shape, look, basePosition=[0, 0, -0.5])
    engine.changeDynamics(body, -1, lateralFriction=1.0)
    return body


def add_object(engine: Engine, thing: SceneObject) -> int:
    shape, look, volume = {"cube": cube, "ball": ball, "tray": tray}.get(thing.shape, turned)(engine, thing)
    density = DENSITY if thing.size < 0.1 else GROUND_DENSITY
    mass = 0.0 if thing.shape in CONTAINERS or not thing.plain else density * volume
    body = engine.createMultiBody(mass, shape, look, basePosition=thing.position,
                                  baseOrientation=engine.getQuaternionFromEuler([0, 0, thing.yaw]))
    # Rolling friction keeps a ball where it was put; damping ends its rolling once it was pushed.
    rolling = 0.01 * thing.size if thing.shape == "ball" else 0.0005
    engine.changeDynamics(body, -1, lateralFriction=0.8, rollingFriction=rolling, spinningFriction=0.002,
                          linearDamping=0.05, angularDamping=0.9 if thing.shape == "ball" else 0.05)
    return body


# Each shape gives its collision shape, its visual shape and its volume [m^3].


def cube(engine: Engine, thing: SceneObject) -> tuple[int, int, float]:
    half = [thing.size / 2 * along for along in thing.stretch]
    look = engine.createVisualShape(engine.GEOM_BOX, halfExtents=half, rgbaColor=rgba(thing))
    return engine.createCollisionShape(engine.GEOM_BOX, halfExtents=half), look, thing.size**3


def ball(engine: Engine, thing: SceneObject) -> tuple[int, int, float]:
    look = engine.createVisualShape(engine.GEOM_SPHERE, radius=thing.size / 2, rgbaColor=rgba(thing))
    return engine.createCollisionShape(engine.GEOM_SPHERE, radius=thing.size / 2), look, 0.524 * thing.size**3


def turned(engine: Engine, thing: SceneObject) -> tuple[int, int, float]:
    """Cylinder, cone and plate."""
    top = CONE_TOP if thing.shape == "cone" else 1.0
    scale = [thing.size * thing.stretch[0], thing.size * thing.stretch[1], 2 * thing.half_height]
    look = engine.createVisualShape(engine.GEOM_MESH, meshScale=scale, rgbaColor=rgba(thing),
                                    **frustum_mesh(top, thing.sides or SIDES))
    if thing.shape == "cylinder":
        shape = engine.createCollisionShape(engine.GEOM_CYLINDER, radius=thing.size / 2, height=scale[2])
    else:
        shape = engine.createCollisionShape(engine.GEOM_MESH, vertices=(np.concatenate(rims(top)) * scale).tolist())
    return shape, look, 0.262 * (1 + top + top**2) * thing.size**2 * scale[2]


def tray(engine: Engine, thing: SceneObject) -> tuple[int, int, float]:
    """A floor with four rims; it does not move, so that its volume does not matter."""
    height, floor, rim = TRAY
    half, middle = thing.size / 2, floor / 2 - height / 2
    boxes = [(np.array([0, 0, middle]), np.array([half, half, floor / 2]))]
    for sign in (-1, 1):
        boxes += [(np.array([sign * (half - rim / 2), 0, 0]), np.array([rim / 2, half, height / 2])),
                  (np.array([0, sign * (half - rim / 2), 0]), np.array([half, rim / 2, height / 2]))]
    shape = engine.createCollisionShapeArray([engine.GEOM_BOX] * len(boxes),
                                             halfExtents=[h.tolist() for _, h in boxes],
                                             collisionFramePositions=[c.tolist() for c, _ in boxes])
    return shape, engine.createVisualShape(engine.GEOM_MESH, rgbaColor=rgba(thing), **boxes_mesh(boxes)), 0.0


def rgba(thing: SceneObject) -> tuple[float, ...]:
    if thing.colour in COLOURS:
        return (*COLOURS[thing.colour], 1.0)
    return (*(value / 255 for value in bytes.fromhex(thing.colour.removeprefix("#"))), 1.0)
