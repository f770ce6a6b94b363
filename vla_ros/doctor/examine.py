"""All checks that need no running system, in the order in which a person would mend what they find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vla_ros.bringup import EXECUTE_STEPS
from vla_ros.doctor import actions, checkpoint, inputs, robot
from vla_ros.doctor.actions import Acting
from vla_ros.doctor.checkpoint import Checkpoint
from vla_ros.doctor.finding import ERROR, Finding, error, ok, run
from vla_ros.doctor.transport import transport
from vla_ros.errors import CheckpointError, UnknownNameError, VlaError
from vla_ros.lerobot.options import is_lerobot
from vla_ros.openvla.configuration import undescribed
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import is_address
from vla_ros.remote.described import Described
from vla_ros.spec import ActionSpec
from vla_ros.vlm.description import OF_PI0, describe, file_of, read_options

OF_CHECKPOINT = (checkpoint.files, checkpoint.trained_on, checkpoint.action_statistics,
                 checkpoint.proprioception_statistics, checkpoint.proprioception, actions.gripper, actions.motion,
                 inputs.cameras, inputs.tokenizer, inputs.prompt)
OF_ACTIONS = (actions.conventions, actions.base_frame, actions.horizon)
UNREADABLE = "the policy node ends with this very error"


def examine(profile: RobotProfile, policy: str, execute_steps: int = EXECUTE_STEPS.default,
            weights: bool = True) -> list[Finding]:
    """What is to be said of a robot and a policy. policy: as open_policy takes it. weights: opens them, with torch.

    Raises UnknownNameError or CheckpointError where `policy` names nothing that there is.
    """
    from vla_ros.policies import checkpoint_folder, is_oft, is_openvla, with_options
    found = run(robot.CHECKS, robot.Robot(profile))
    found.append(transport(profile, os.environ))
    if policy == "oracle":
        return [*found, ok("policy", "'oracle' is told the truth by the simulator, and reads no checkpoint")]
    if is_address(policy) or policy.partition(":")[0] in ("hold", "replay"):
        return found + list(without_checkpoint(profile, policy, execute_steps))
    if is_lerobot(policy):
        return found + list(of_lerobot(policy, profile, execute_steps, weights))
    folder = checkpoint_folder(policy, profile)
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}; expected one with {', '.join(checkpoint.FILES)}")
    if is_openvla(folder) and not is_oft(folder):
        return found + list(of_openvla(folder, policy, profile, execute_steps, weights))
    described = file_of(folder, with_options(policy)[1])
    if described or is_oft(folder):
        return found + list(of_described(described, folder, policy, profile, execute_steps, weights))
    try:
        c = Checkpoint.read(folder, profile)
        acting = Acting(c.spec, profile, execute_steps)
    except VlaError as reason:
        return [*found, error("checkpoint", str(reason), UNREADABLE, "give the folder that training wrote, whole")]
    found += run(OF_ACTIONS, acting) + run(OF_CHECKPOINT, c)
    return found + list(checkpoint.weights(c)) if weights else found


def objections(profile: RobotProfile, policy: str, execute_steps: int) -> str:
    """The errors among what can be examined without weights, so without torch, in one line; empty: there are none, or
    no policy is named."""
    if not policy:
        return ""
    try:
        found = examine(profile, policy, execute_steps, weights=False)
    except VlaError as reason:
        return str(reason)
    return "; ".join(f"{finding.check}: {finding.what}" for finding in found if finding.level == ERROR)


def of_openvla(folder: Path, policy: str, profile: RobotProfile, execute_steps: int,
               weights: bool) -> Iterator[Finding]:
    from vla_ros.doctor import openvla
    try:
        made = openvla.planned(folder, policy, profile)
    except VlaError as reason:
        yield error("checkpoint", str(reason), UNREADABLE, openvla.MEND)
        return
    yield from run(OF_ACTIONS, Acting(made.fitting.spec, profile, execute_steps))
    yield from openvla.of_plan(made, profile)
    yield from openvla.weights(policy, profile) if weights else ()


def of_described(file: Path | None, folder: Path, policy: str, profile: RobotProfile, execute_steps: int,
                 weights: bool) -> Iterator[Finding]:
    """A model of others, by the file that says what its words or numbers mean."""
    from vla_ros.doctor import openvla
    try:
        if file is None:
            raise undescribed(folder)
        spec, cameras, says = meaning(file, folder, profile)
    except VlaError as reason:
        yield error("description", str(reason), UNREADABLE, "docs/vlm.md and docs/openvla.md have what it holds")
        return
    yield ok("description", f"{file.name}: cameras {', '.join(cameras)}; {says}")
    yield from run(OF_ACTIONS, Acting(spec, profile, execute_steps))
    yield from going_on(folder, policy, execute_steps)
    yield from openvla.weights(policy, profile) if weights else ()


def going_on(folder: Path, policy: str, execute_steps: int) -> Iterator[Finding]:
    """A pi0 that goes on from the chunk in force has to know which one that is."""
    from vla_ros.policies import is_oft, model_type, with_options
    if is_oft(folder) or model_type(folder) != "pi0":
        return
    try:
        options = read_options(with_options(policy)[1], OF_PI0)
    except VlaError as reason:
        yield error("options", str(reason), UNREADABLE, "docs/vlm.md has those that there are")
        return
    if options.delay is not None and options.execute_steps != execute_steps:
        yield error("options", f"the policy's execute_steps is {options.execute_steps}, the control node's "
                    f"{execute_steps}", "the policy would go on from chunks that nobody executes",
                    f"execute_steps={execute_steps} behind the checkpoint, or execute_steps:={options.execute_steps}")


def meaning(file: Path, folder: Path, profile: RobotProfile) -> tuple[ActionSpec, tuple[str, ...], str]:
    """Of a checkpoint with a file beside it: spec, cameras that it reads, and how it says actions. Raises VlaError."""
    from vla_ros.policies import is_oft, model_type
    if is_oft(folder) or model_type(folder) == "pi0":
        meant = Described(str(file), profile, "prompt")
        return meant.spec, meant.cameras, "numbers, no words"
    made = describe(file, profile)
    return made.action, made.images, "FAST" if made.fast else "bins"


def of_lerobot(policy: str, profile: RobotProfile, execute_steps: int, weights: bool) -> Iterator[Finding]:
    from vla_ros.doctor import lerobot
    try:
        features, described = lerobot.planned(policy, profile)
    except VlaError as reason:
        yield error("checkpoint", str(reason), UNREADABLE, lerobot.MEND)
        return
    yield from run(OF_ACTIONS, Acting(described.spec, profile, execute_steps))
    yield from lerobot.of_plan(features, described)
    yield from lerobot.weights(policy, profile) if weights else ()


def without_checkpoint(profile: RobotProfile, policy: str, execute_steps: int) -> Iterator[Finding]:
    """hold, and a replay: they act in the robot's own spec; a remote policy, which says what its spec is."""
    from vla_ros.policies import open_policy
    try:
        opened = open_policy(policy, profile)
    except UnknownNameError:
        raise
    except VlaError as reason:
        yield error("policy", str(reason), UNREADABLE, "a recording, or a server, that was made for this robot")
        return
    yield ok("policy", f"'{opened.name}' reads no checkpoint")
    yield from run(OF_ACTIONS, Acting(opened.spec, profile, execute_steps))


def cameras_read(profile: RobotProfile, policy: str) -> tuple[str, ...]:
    """Those that the policy reads; all of the robot's where nothing says which."""
    from vla_ros.doctor import lerobot, openvla
    from vla_ros.policies import checkpoint_folder, is_oft, is_openvla, with_options
    try:
        if is_lerobot(policy):
            return lerobot.planned(policy, profile)[1].cameras
        folder = checkpoint_folder(policy, profile)
        if is_openvla(folder) and not is_oft(folder):
            return (openvla.planned(folder, policy, profile).camera,)
        if described := file_of(folder, with_options(policy)[1]):
            return meaning(described, folder, profile)[1]
        return Checkpoint.read(folder, profile).cameras
    except VlaError:
        return tuple(profile.cameras)
