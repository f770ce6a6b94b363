"""The quality of service of every topic, each choice with its reason."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data

RELIABLE, LAST = ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL

# Images and joint states of a running robot: the newest counts, a lost one is not worth waiting for.
SENSOR = qos_profile_sensor_data

# What must arrive: chunks and commands. ros2_control's controllers subscribe reliably too.
STREAM = QoSProfile(depth=10, reliability=RELIABLE)

# vla/instruction, vla/stop and its reset are subscribed to without durability: a reader that asks for transient local
# would not match `ros2 topic pub`, which offers volatile; and a node that was restarted must not act on words from
# before. A stop from before it must heed: the task node keeps the newest of those, as a STATUS (nodes/latching.py).
REQUEST = QoSProfile(depth=10, reliability=RELIABLE)

# How things stand: who joins late reads the last one at once.
STATUS = QoSProfile(depth=1, reliability=RELIABLE, durability=LAST)

# Lockstep: every message counts, and each is also kept for a node that is discovered after it was sent. Few are on
# their way at a time, because the simulation waits for the nodes that read them.
LOCKSTEP = QoSProfile(depth=8, reliability=RELIABLE, durability=LAST)

# What comes every tick in lockstep, for readers that the simulation does not wait for: a burst must not push out the
# message that counts. The task's state, where one carries the success; joint states, for whoever records them.
EVERY_TICK = QoSProfile(depth=500, reliability=RELIABLE)

# A picture for people: the newest. Reliable, because viewers ask for that as well as for best effort.
VIEW = QoSProfile(depth=1, reliability=RELIABLE)

CLOCK = QoSProfile(depth=1, reliability=RELIABLE)


def sensor(lockstep: bool) -> QoSProfile:
    return LOCKSTEP if lockstep else SENSOR


def stream(lockstep: bool) -> QoSProfile:
    return LOCKSTEP if lockstep else STREAM
