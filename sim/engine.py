"""One PyBullet physics client of its own, so that several worlds can live in one process."""

from __future__ import annotations

from functools import partial

import pybullet

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
