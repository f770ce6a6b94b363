"""Parameters of the nodes: declared from one table a node, with description, range and choices."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.splicing import DEFAULT, SPLICES


@dataclass(frozen=True)
class Parameter:
    """One parameter, read at the start. low, high: the range of a number; choices: the valid words."""

    name: str
    default: bool | int | float | str
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        described = ParameterDescriptor(name=self.name, description=self.description, read_only=True)
        if self.choices:
            described.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.low is not None and isinstance(self.default, float):
            described.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
        elif self.low is not None:
            described.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)]
        return described


ROBOT = Parameter("robot", "panda", "robot profile: a shipped name (panda, husky) or a YAML file")
AUTOSTART = Parameter("autostart", True, "the node configures itself, and activates itself once nothing is lacking; "
                      "false: a manager does, or `ros2 lifecycle set`")
LOCKSTEP = Parameter("lockstep", False, "the simulated clock waits for this node: every message counts, none is late")
STOP_WORDS = Parameter("stop_words", "", "YAML file of the words that stop the robot without the policy; empty: the "
                       "shipped one; none: none")
EXECUTE_STEPS = Parameter("execute_steps", 4, "action steps of a chunk that are executed before a newer one takes "
                          "over; in lockstep also those between two observations", 1, 1000)

SPLICE = Parameter("splice", DEFAULT, "how a newer chunk takes over from the one that runs: the newest alone, a mean "
                   "of all, or a crossfade", choices=tuple(SPLICES))


def declare(node, table: tuple[Parameter, ...]) -> SimpleNamespace:
    """The values of a node's parameters by name. Raises ConfigError or UnknownNameError for what is not valid."""
    values = {}
    for parameter in table:
        name = parameter.name
        try:
            values[name] = node.declare_parameter(name, parameter.default, parameter.descriptor()).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            reach = f" from {parameter.low:g} to {parameter.high:g}" if parameter.low is not None else ""
            raise ConfigError(f"parameter {name} must be a {type(parameter.default).__name__}{reach}: "
                              f"{parameter.description}") from error
        if parameter.choices and values[name] not in parameter.choices:
            raise UnknownNameError(f"value of parameter {name}", values[name], parameter.choices)
    return SimpleNamespace(**values)
