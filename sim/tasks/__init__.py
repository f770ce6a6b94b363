"""The instruction families: how each is laid out, worded and judged."""

from vla_ros.errors import UnknownNameError
from vla_ros.sim.tasks.drive import Drive
from vla_ros.sim.tasks.pick import Pick
from vla_ros.sim.tasks.push import Push
from vla_ros.sim.tasks.reach import Reach
from vla_ros.sim.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Reach(), Push(), Pick(), Drive())}


def get_task(name: str) -> Task:
    """A task by name, or UnknownNameError."""
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    return TASKS[name]
