"""A LeRobot checkpoint, the file that says what its numbers mean, and a robot: they are compared before it loads."""

from __future__ import annotations

from vla_ros.errors import ConfigError
from vla_ros.lerobot.checkpoint import Features, read_features
from vla_ros.lerobot.options import Options
from vla_ros.profile import RobotProfile
from vla_ros.remote.described import Described, Description


def plan(options: Options, profile: RobotProfile) -> tuple[Features, Described]:
    """From JSON and YAML alone. Raises CheckpointError, UnknownNameError, ConfigError, or ActionError where the file
    does not fit the robot or the checkpoint."""
    if not options.folder.is_dir():
        raise ConfigError(f"no folder {options.folder}")
    found = read_features(options.folder)
    if not options.spec.is_file():
        raise ConfigError(f"{options.folder} does not say what its actions mean: write {options.spec} "
                          "(docs/lerobot.md has an example)")
    described = Described(str(options.spec), profile, "prompt")
    wrong = [*images(found, described.description, profile), *states(found, described.description, profile),
             *actions(found, described)]
    if wrong:
        raise ConfigError(f"{options.spec} does not fit {options.folder}: {'; '.join(wrong)}")
    return found, described


def images(found: Features, said: Description, profile: RobotProfile) -> list[str]:
    """What does not fit. A kind that scales images itself takes any size, and does without a camera."""
    wrong = [f"images: the checkpoint reads no '{key}', it reads {', '.join(found.images)}"
             for key in said.images if key not in found.images]
    lacking = [key for key in found.images if key not in said.images]
    if lacking and not found.masking:
        wrong.append(f"images lack {', '.join(lacking)}, which {found.kind} cannot do without")
    for key, name in said.images.items():
        camera = profile.cameras[name]
        if not found.masking and key in found.images and found.images[key] != (3, camera.height, camera.width):
            _, height, width = found.images[key]
            wrong.append(f"{key} was {width}x{height} in training, camera '{name}' is {camera.width}x{camera.height}")
    return wrong


def states(found: Features, said: Description, profile: RobotProfile) -> list[str]:
    lengths = said.lengths(profile)
    wrong = [f"state: the checkpoint reads no '{key}', it reads {', '.join(found.states) or 'none'}"
             for key in lengths if key not in found.states]
    for key, shape in found.states.items():
        if (lengths.get(key, 0),) != shape:
            wrong.append(f"state {key} has {lengths.get(key, 0)} numbers, the checkpoint reads {shape[0]}")
    return wrong


def actions(found: Features, said: Described) -> list[str]:
    horizon, dim = said.chain.shape
    return [f"{what} is {given}, the checkpoint's {its}" for what, given, its in (
        ("the number of action names", dim, found.dim), ("action.horizon", horizon, found.horizon)) if given != its]
