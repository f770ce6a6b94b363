"""Other scenes and other words for an episode. Each function draws from the generator that it is given, and only there.

Templates are those of vla_ros.words: families to wordings; None stands for the ones that ship for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.evaluation.setting import Change
from vla_ros.sequence import parts
from vla_ros.sim.tasks import TASKS, Task
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.tasks.task import DIRECTION_VECTORS
from vla_ros.sim.world import CONTAINERS, Scene
from vla_ros.words import instruction

Templates = Mapping[str, Sequence[str]] | None
LAYOUTS = 30  # looked at for the most crowded one
OTHERS = 1000  # looked at for an object that a scene lacks
ONE_OBJECT = ("reach", "push", "pick", "away", "drive")  # families whose words fit any object of any scene
FOLLOWING = ("reach", "pick")  # families that can be begun from wherever the arm is
FREE_AFTER = ("reach", "push", "place", "next_to", "stack", "away", "home")  # families that leave the hand empty
HALF_WAY = 1.0  # [s]


def worded(scene: Scene, family: str, rng: np.random.Generator, templates: Templates = None, named: str = "") -> Scene:
    """The scene's goal in the words of a family. named: words for the object, instead of the target's own."""
    def words(index: int) -> str:
        return scene.objects[index].words if index >= 0 else ""
    said = instruction(family, rng, o=named or words(scene.target), r=words(scene.reference),
                       d=scene.relation or scene.direction, templates=templates)
    return replace(scene, instruction=said)


def unseen_pair(scene: Scene, family: str, rng: np.random.Generator) -> Scene:
    """The target in a colour that training never showed on its shape; an object that had it takes the old one."""
    target = scene.objects[scene.target]
    colours = [colour for shape, colour in HELD_OUT_PAIRS if shape == target.shape]
    new = replace(target, colour=colours[rng.integers(len(colours))])
    swapped = [new if thing is target else replace(thing, colour=target.colour) if thing.words == new.words else thing
               for thing in scene.objects]
    return worded(replace(scene, objects=tuple(swapped)), family, rng)


def crowd(task: Task, rng: np.random.Generator) -> Scene:
    """The most crowded of some layouts, where every other movable object shares the target's colour or its shape."""
    scene = max((task.layout(rng) for _ in range(LAYOUTS)), key=lambda scene: len(scene.objects))
    target, taken = scene.objects[scene.target], {thing.words for thing in scene.objects}
    objects = []
    for i, thing in enumerate(scene.objects):
        alike = replace(thing, colour=target.colour)
        if i in movable(scene) and thing.shape != target.shape and alike.words not in taken:
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


def sequence(scene: Scene, task: Task, rng: np.random.Generator) -> tuple[Scene, Change]:
    """Told at once to do this, then something else; where the words do not come apart, nothing else is ever told."""
    change = changed(scene, task, rng)
    second = change.scene
    if task.name == change.task.name == "reach" and rng.random() < 0.5:
        second = replace(second, instruction=f"the {second.objects[second.target].words}")
    told = f"{scene.instruction.rstrip('.!?')}, then {second.instruction}"
    first, *rest = parts(told)
    return (replace(scene, instruction=first),
            Change(None, change.task, replace(second, instruction=rest[0] if rest else told)))


def about_another(scene: Scene, family: str, rng: np.random.Generator) -> Scene:
    """A goal of a family of ONE_OBJECT about a movable object that is not the target, if there is one."""
    others = [i for i in movable(scene) if i != scene.target] or [scene.target]
    direction = str(rng.choice(list(DIRECTION_VECTORS))) if family == "push" else ""
    goal = replace(scene, target=int(rng.choice(others)), direction=direction, reference=-1, relation="")
    return worded(goal, family, rng)


def movable(scene: Scene) -> list[int]:
    return [i for i, thing in enumerate(scene.objects) if thing.shape not in CONTAINERS]
