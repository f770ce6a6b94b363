"""Scripted experts: actions as functions of the present state only, for a whole batch at once.

Because they remember nothing, any frame can be labelled for any instruction and any target afterwards. The labels of a
chunk come from a kinematic roll-out with perfect tracking. The rules are blended by smooth functions of the errors, not
switched, because a small network has to imitate them.

Dimension letters: N batch, T horizon.
"""

from vla_ros.sim.experts.arm import STEP, arm_chunk
from vla_ros.sim.experts.base import base_chunk
from vla_ros.sim.experts.states import FAMILIES, ArmStates

__all__ = ["FAMILIES", "STEP", "ArmStates", "arm_chunk", "base_chunk"]
