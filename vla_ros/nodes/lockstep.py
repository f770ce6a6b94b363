"""Lockstep: time waits for each command. No ROS, no clock, no thread."""

from __future__ import annotations

from collections.abc import Callable

from vla_ros.nodes.commanding import Commanding
from vla_ros.types import Command, JointState


class Lockstep:
    """The control node's clock in lockstep: each joint state is answered by exactly one command.

    Every `execute` [ns] it waits for the chunk that answers that very moment, as evaluation/rollout.py does.
    publish: sends a command with the stamp that it answers.
    """

    def __init__(self, commanding: Commanding, execute: int, publish: Callable[[Command, int], None]):
        self.commanding, self.execute, self.publish = commanding, execute, publish
        self.waiting: int | None = None  # [ns] stamp of the joint state that was not answered yet

    def joints(self, joints: JointState) -> None:
        current = self.commanding.controller.current
        self.commanding.joints(joints)
        if self.commanding.controller.current is not current:
            self.waiting = joints.stamp
        self.advance()

    def advance(self) -> None:
        """Answers the joint state that waits, if everything that it needs has come."""
        commanding = self.commanding
        if self.waiting is None:
            return
        accepted = commanding.accepted
        # An answer to this very moment that led to no command was a refusal before the first motion: another may come.
        if accepted is None or not 0 < self.waiting - accepted.chunk.stamp < self.execute:
            offer = commanding.offer
            if offer is None or offer.chunk.stamp != self.waiting or not commanding.take():
                if commanding.fault:  # the answer was refused, and no other will come
                    commanding.hold(commanding.fault)
                return
        command = commanding.tick(self.waiting)
        if command is not None:
            stamp, self.waiting = self.waiting, None
            self.publish(command, stamp)
