"""One PyBullet physics client of its own, so that several worlds can live in one process."""

from __future__ import annotations

from functools import partial

import pybullet

from vla_ros.errors import UnknownNameError

PHYSICS_RATE = 240  # [Hz]


class Engine:
    """PyBullet's functions, bound to this client: engine.stepSimulation() is pybullet.stepSimulation(client)."""

    def __init__(self):
        self.client: int | None = pybullet.connect(pybullet.DIRECT)

    def __getattr__(self, name: str):
        attribute = getattr(pybullet, name)
        return partial(attribute, physicsClientId=self.client) if callable(attribute) else attribute

    def restart(self) -> None:
        """An empty world; nothing of the one before is left, so that episodes do not depend on their order."""
        self.resetSimulation()
        self.setGravity(0, 0, -9.81)
        self.setPhysicsEngineParameter(fixedTimeStep=1 / PHYSICS_RATE, numSolverIterations=50,
                                       deterministicOverlappingPairs=1)

    def close(self) -> None:
        if self.client is not None:
            self.disconnect()
            self.client = None


class Names(dict):
    """PyBullet's indices by name; asking for a name that is not there lists those that are."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def __missing__(self, name: str):
        raise UnknownNameError(self.kind, name, self)


def names(engine: Engine, body: int) -> tuple[Names, Names]:
    """Indices of a body's links and of its joints; a joint has the index of the link that it moves."""
    links, joints = Names("link"), Names("joint")
    for i in range(engine.getNumJoints(body)):
        info = engine.getJointInfo(body, i)
        joints[info[1].decode()], links[info[12].decode()] = i, i
    return links, joints
