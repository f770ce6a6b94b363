"""Bodies of the scene: the objects, and what they stand on."""

from __future__ import annotations

import pybullet_data

from vla_ros.sim.engine import Engine
from vla_ros.sim.meshes import cylinder_mesh
from vla_ros.sim.world import COLOURS, CYLINDER_ASPECT, SceneObject

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
    size, rgba = thing.size, (*COLOURS[thing.colour], 1.0)
    if thing.shape == "cube":
        half = [size / 2] * 3
        shape = engine.createCollisionShape(engine.GEOM_BOX, halfExtents=half)
        look = engine.createVisualShape(engine.GEOM_BOX, halfExtents=half, rgbaColor=rgba)
        volume = size**3
    elif thing.shape == "cylinder":
        height = CYLINDER_ASPECT * size
        shape = engine.createCollisionShape(engine.GEOM_CYLINDER, radius=size / 2, height=height)
        look = engine.createVisualShape(engine.GEOM_MESH, meshScale=[size, size, height], rgbaColor=rgba,
                                        **cylinder_mesh())
        volume = 0.785 * size**2 * height
    else:
        shape = engine.createCollisionShape(engine.GEOM_SPHERE, radius=size / 2)
        look = engine.createVisualShape(engine.GEOM_SPHERE, radius=size / 2, rgbaColor=rgba)
        volume = 0.524 * size**3
    density = DENSITY if size < 0.1 else GROUND_DENSITY
    body = engine.createMultiBody(density * volume, shape, look, basePosition=thing.position,
                                  baseOrientation=engine.getQuaternionFromEuler([0, 0, thing.yaw]))
    # Rolling friction keeps a ball where it was put; damping ends its rolling once it was pushed.
    rolling = 0.01 * size if thing.shape == "ball" else 0.0005
    engine.changeDynamics(body, -1, lateralFriction=0.8, rollingFriction=rolling, spinningFriction=0.002,
                          linearDamping=0.05, angularDamping=0.9 if thing.shape == "ball" else 0.05)
    return body
