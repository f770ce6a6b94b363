"""The quality of service of every topic, each choice with its reason."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data

RELIABLE, LAST = ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL

# Images and joint states of a running robot: the newest counts, a lost one is not worth waiting for.
SENSOR = qos_profile_sensor_data

# What must arrive: chunks and commands. ros2_control's controllers subscribe reliably too.
STREAM = QoSProfile(depth=10, reliability=RELIABLE)

# vla/instruction and vla/stop are subscribed to without durability: a reader that asks for transient local would not
# match `ros2 topic pub`, which offers volatile; and a node that was restarted must not act on words from before.
REQUEST = QoSProfile(depth=10, reliability=RELIABLE)

# How things stand: who joins late reads the last one at once.
STATUS = QoSProfile(depth=1, reliability=RELIABLE, durability=LAST)

# Lockstep: every message counts, and each is also kept for a node that is discovered after it was sent.
LOCKSTEP = QoSProfile(depth=8, reliability=RELIABLE, durability=LAST)

# The task's state, every tick in lockstep: a burst must not push out the one that carries the success.
TASK_STATE = QoSProfile(depth=500, reliability=RELIABLE)

CLOCK = QoSProfile(depth=1, reliability=RELIABLE)


def sensor(lockstep: bool) -> QoSProfile:
    return LOCKSTEP if lockstep else SENSOR


def stream(lockstep: bool) -> QoSProfile:
    return LOCKSTEP if lockstep else STREAM
