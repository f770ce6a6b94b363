"""The conditions of an evaluation: each sets an episode, from its task and seed alone, in its own way."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.evaluation import scenes
from vla_ros.evaluation.scenes import Templates
from vla_ros.evaluation.setting import BLACK, FROZEN, REFUSED, STILL, Setting
from vla_ros.sim.appearance import displaced, lit
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.words import HELD_OUT, load_refused, load_wordings, refused_instruction

PLAIN, WORDINGS = "plain", "wordings"
LATENCIES = (0, 100, 200, 400)  # [ms]

Setter = Callable[[Setting, np.random.Generator, Templates], Setting]


@dataclass(frozen=True)
class Condition:
    """about: what is different, for people; fits(task name): whether it makes sense there.

    rated: whether the model's first confidence is about what counts as right here.
    """

    about: str
    set: Setter
    fits: Callable[[str], bool] = lambda task: True
    rated: bool = True


@cache
def has_target(task: str) -> bool:
    return TASKS[task].layout(np.random.default_rng(0)).target >= 0


def on_arm(task: str) -> bool:
    """Whether the robot has families that can follow, and was trained without the held-out pairs."""
    return TASKS[task].robot == TASKS[scenes.FOLLOWING[0]].robot


def plain(setting, rng, templates):
    return setting


def wordings(setting, rng, templates):
    return with_scene(setting, scenes.worded(setting.scene, setting.task.name, rng, templates))


def pairs(setting, rng, templates):
    return with_scene(setting, scenes.unseen_pair(setting.scene, setting.task.name, rng))


def distractors(setting, rng, templates):
    return with_scene(setting, scenes.crowd(setting.task, rng))


def camera(setting, rng, templates):
    return replace(setting, appearance=displaced(rng))


def light(setting, rng, templates):
    return replace(setting, appearance=lit(rng))


def latency(setting, rng, templates, milliseconds: int):
    return replace(setting, latency=milliseconds / 1e3)


def absent(setting, rng, templates):
    return replace(setting, scene=scenes.absent(setting.scene, setting.task, rng), right=REFUSED)


def impossible(setting, rng, templates):
    words = refused_instruction("impossible", rng, refused())
    return replace(setting, scene=replace(setting.scene, instruction=words), right=REFUSED)


def changed(setting, rng, templates):
    return replace(setting, change=scenes.changed(setting.scene, setting.task, rng))


def sequence(setting, rng, templates):
    scene, change = scenes.sequence(setting.scene, setting.task, rng)
    return replace(with_scene(setting, scene), change=change)


def shuffled(setting, rng, templates):
    return with_scene(setting, scenes.shuffled(setting.scene, setting.task, rng))


def blind(setting, rng, templates, pictures: str):
    return replace(setting, pictures=pictures, right=STILL)


CONDITIONS: dict[str, Condition] = {
    PLAIN: Condition("nothing is changed", plain),
    WORDINGS: Condition("templates that training never used", wordings),
    "pairs": Condition("the target has a colour that training never showed on its shape", pairs,
                       lambda task: on_arm(task) and has_target(task)),
    "distractors": Condition("as many objects as there are room for, like the target in colour or shape", distractors,
                             has_target),
    "camera": Condition("cameras moved by up to 3 cm and 5 degrees", camera),
    "light": Condition("another light, and another colour and texture below the objects", light),
    **{f"latency-{ms}": Condition(f"the world goes on while the model thinks, and {ms} ms more",
                                  partial(latency, milliseconds=ms)) for ms in LATENCIES},
    "absent": Condition("the object named is not there: right is to refuse", absent, has_target),
    "impossible": Condition("it cannot be done: right is to refuse", impossible),
    "changed": Condition("after one second, other words: right is to do what they say", changed, on_arm, rated=False),
    "sequence": Condition("told at once to do it, then something else: right is to do both in turn", sequence,
                          lambda task: on_arm(task) and task in scenes.FREE_AFTER, rated=False),
    "shuffled": Condition("the words of another family, judged by the layout's own goal: what language is worth",
                          shuffled, has_target, rated=False),
    "frozen": Condition("the cameras repeat their first picture: right is to end by refusing it, or not to move",
                        partial(blind, pictures=FROZEN), rated=False),
    "black": Condition("the cameras are black: right is to refuse, or not to move", partial(blind, pictures=BLACK),
                       rated=False),
}


def get_condition(name: str) -> Condition:
    """A condition by name, or UnknownNameError."""
    if name not in CONDITIONS:
        raise UnknownNameError("condition", name, CONDITIONS)
    return CONDITIONS[name]


def fitting(name: str, tasks: Sequence[str], templates: Templates = None) -> list[str]:
    """Those of `tasks` in which a condition makes sense; templates: those that the condition 'wordings' draws from."""
    worded = held_out(templates) if name == WORDINGS else None
    return [task for task in tasks if get_condition(name).fits(task) and (worded is None or task in worded)]


def choose(text: str, tasks: Sequence[str], templates: Templates = None) -> list[str]:
    """Names parted by commas, in the order of the registry; 'all': those that make sense in any of the tasks.

    Raises UnknownNameError, and ConfigError for a name that makes sense in none.
    """
    named = set(CONDITIONS) if text == "all" else {name.strip() for name in text.split(",")}
    useless = sorted(name for name in named if not fitting(name, tasks, templates))
    if useless and text != "all":
        raise ConfigError(f"condition '{useless[0]}' makes no sense in {', '.join(tasks)}")
    return [name for name in CONDITIONS if name in named and name not in useless]


def make_setting(task: str, seed: int, condition: str = PLAIN, templates: Templates = None) -> Setting:
    """The same for the same arguments, wherever and whenever."""
    chosen = get_task(task)
    scene = replace(chosen.layout(np.random.default_rng(seed)), seed=seed)
    rng = np.random.default_rng([seed, zlib.crc32(condition.encode())])
    worded = held_out(templates) if condition == WORDINGS else None
    return get_condition(condition).set(Setting(chosen, scene), rng, worded)


@cache
def shipped() -> Templates:
    return load_wordings(HELD_OUT)


@cache
def refused() -> Templates:
    return {kind: parts["held_out"] for kind, parts in load_refused().items()}


def held_out(templates: Templates) -> Templates:
    return shipped() if templates is None else templates


def with_scene(setting: Setting, scene) -> Setting:
    return replace(setting, scene=replace(scene, seed=setting.scene.seed))
