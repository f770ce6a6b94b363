"""The instruction families: how each is laid out, worded and judged."""

from vla_ros.errors import UnknownNameError
from vla_ros.sim.tasks.away import Away
from vla_ros.sim.tasks.drive import Drive
from vla_ros.sim.tasks.home import Home
from vla_ros.sim.tasks.next_to import NextTo
from vla_ros.sim.tasks.pick import Pick
from vla_ros.sim.tasks.place import Place
from vla_ros.sim.tasks.push import Push
from vla_ros.sim.tasks.reach import Reach
from vla_ros.sim.tasks.stack import Stack
from vla_ros.sim.tasks.stop import Stop
from vla_ros.sim.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Reach(), Push(), Pick(), Place(), NextTo(), Stack(), Away(),
                                                       Home(), Stop(), Drive())}


def get_task(name: str) -> Task:
    """A task by name, or UnknownNameError."""
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    return TASKS[name]
