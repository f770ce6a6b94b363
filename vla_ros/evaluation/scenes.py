"""Other scenes and other words for an episode. Each function draws from the generator that it is given, and only there.

Templates are those of vla_ros.words: families to wordings; None stands for the simulator's own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vla_ros import words
from vla_ros.errors import SimulationError
from vla_ros.evaluation.setting import Change
from vla_ros.sim.tasks import TASKS, Task, wordings
from vla_ros.sim.tasks.task import DIRECTION_VECTORS
from vla_ros.sim.world import Scene

Templates = Mapping[str, Sequence[str]] | None
LAYOUTS = 30  # looked at for the most crowded one
OTHERS = 1000  # looked at for an object that a scene lacks
ONE_OBJECT = ("reach", "push", "pick", "drive")  # families whose words fit any object of any scene
FOLLOWING = ("reach", "pick")  # families that can be begun from wherever the arm is
HALF_WAY = 1.0  # [s]


def worded(scene: Scene, family: str, rng: np.random.Generator, templates: Templates = None, named: str = "") -> Scene:
    """The scene's goal in the words of a family: of these templates, or in the simulator's own.

    named: words for the object, instead of the target's own.
    """
    said = named or scene.objects[scene.target].words
    text = (wordings.instruction(family, said, scene.direction, rng) if templates is None
            else words.instruction(family, rng, o=said, d=scene.direction, templates=templates))
    return replace(scene, instruction=text)


def crowd(task: Task, rng: np.random.Generator) -> Scene:
    """The most crowded of some layouts, where every other object shares the target's colour or its shape."""
    scene = max((task.layout(rng) for _ in range(LAYOUTS)), key=lambda scene: len(scene.objects))
    target, taken = scene.objects[scene.target], {thing.words for thing in scene.objects}
    objects = []
    for thing in scene.objects:
        alike = replace(thing, colour=target.colour)
        if thing.shape != target.shape and alike.words not in taken:
            taken.add(alike.words)
            thing = alike
        objects.append(thing)
    return worded(replace(scene, objects=tuple(objects)), task.name, rng)


def absent(scene: Scene, task: Task, rng: np.random.Generator) -> Scene:
    """The same scene, told to do it with an object that is not there: the target of another layout."""
    there = {thing.words for thing in scene.objects}
    for _ in range(OTHERS):
        other = task.layout(rng)
        named = other.objects[other.target].words
        if named not in there:
            return worded(scene, task.name, rng, named=named)
    raise SimulationError(f"every object of task '{task.name}' is in its scene")


def shuffled(scene: Scene, task: Task, rng: np.random.Generator) -> Scene:
    """The same scene and goal under the words of another family about another object, where there is one."""
    families = [t for t in ONE_OBJECT if t in TASKS and TASKS[t].robot == task.robot and t != task.name] or [task.name]
    return replace(scene, instruction=about_another(scene, str(rng.choice(families)), rng).instruction)


def changed(scene: Scene, task: Task, rng: np.random.Generator) -> Change:
    """Another object of the same scene, in a family that can follow."""
    families = [t for t in FOLLOWING if t in TASKS and TASKS[t].robot == task.robot]
    family = str(rng.choice(families))
    return Change(HALF_WAY, TASKS[family], about_another(scene, family, rng))


def about_another(scene: Scene, family: str, rng: np.random.Generator) -> Scene:
    """A goal of a family of ONE_OBJECT about an object that is not the target, if there is one."""
    others = [i for i in range(len(scene.objects)) if i != scene.target] or [scene.target]
    direction = str(rng.choice(list(DIRECTION_VECTORS))) if family == "push" else ""
    goal = replace(scene, target=int(rng.choice(others)), direction=direction)
    return worded(goal, family, rng)
