"""Policies, one file each, by name: 'native', 'hold', 'replay:FILE.npz', a checkpoint (its folder, its name on a hub,
or the URL of an archive), an address."""

from __future__ import annotations

import json
from pathlib import Path

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.lerobot.options import PREFIX, is_lerobot
from vla_ros.naming import hub_name, is_archive
from vla_ros.openvla.configuration import MODEL_TYPE, has_head
from vla_ros.paths import shipped_checkpoint
from vla_ros.policies.kinds import KINDS
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import is_address
from vla_ros.remote.opening import open_remote
from vla_ros.untrusted import vet
from vla_ros.vlm.description import file_of


def open_policy(source: str, profile: RobotProfile) -> Policy:
    """The policy that `source` names, for a robot. 'native' is the checkpoint shipped for that robot.

    Raises UnknownNameError, ConfigError, CheckpointError, RemoteError, or ActionError when policy and robot disagree on
    what actions mean.
    """
    if is_address(source):
        return open_remote(source, profile)
    if is_lerobot(source):
        from vla_ros.policies.lerobot import LerobotPolicy
        name, options = with_options(source.removeprefix(PREFIX))
        folder = located(name) or Path(name)
        vet(folder)
        return LerobotPolicy.open(f"{PREFIX}{folder if name else ''}?{options}".rstrip("?"), profile)
    kind, _, rest = source.partition(":")
    if kind == "hold":
        from vla_ros.policies.hold import HoldPolicy
        return HoldPolicy(profile)
    if kind == "replay" and rest:
        from vla_ros.policies.replay import ReplayPolicy
        return ReplayPolicy.load(rest, profile)
    folder, (_, options) = checkpoint_folder(source, profile), with_options(source)
    if is_oft(folder):
        from vla_ros.openvla.options import OftOptions, read_options
        from vla_ros.policies.oft import OftPolicy
        return OftPolicy.load(folder, profile, read_options(options, OftOptions))
    if is_openvla(folder):
        from vla_ros.openvla.options import read_options
        from vla_ros.policies.openvla import OpenVlaPolicy
        return OpenVlaPolicy.load(folder, profile, read_options(options))
    if described := file_of(folder, options):
        if model_type(folder) == "pi0":
            from vla_ros.policies.pi0 import Pi0Policy
            return Pi0Policy.load(folder, described, profile, options)
        from vla_ros.policies.vlm import VlmPolicy
        return VlmPolicy.load(folder, described, profile, options)
    if options:
        raise ConfigError(f"checkpoint {folder} takes no options, got '{options}': they are for those of OpenVLA, and "
                          "for vision-language models with a file that says what their words mean")
    from vla_ros.policies.native import NativePolicy
    return NativePolicy.load(folder, profile)


def checkpoint_folder(source: str, profile: RobotProfile) -> Path:
    """Where the checkpoint that `source` names is, brought first where it is elsewhere. Needs no torch.

    Raises UnknownNameError, ConfigError or CheckpointError."""
    if source == "native":
        return shipped_checkpoint(profile.name)
    name, _ = with_options(source.removeprefix(PREFIX))
    folder = located(name)
    if folder is None:
        raise UnknownNameError("policy", source, [kind.form for kind in KINDS])
    vet(folder)
    return folder


def located(name: str) -> Path | None:
    """None for what is no name of a checkpoint."""
    if is_archive(name):
        from vla_ros.hub import archives
        return archives.folder_of(name)
    if hub := hub_name(name):
        from vla_ros.hub import fetching
        return fetching.folder_of(hub)
    return Path(name) if "/" in name or Path(name).exists() else None


def with_options(source: str) -> tuple[str, str]:
    """A checkpoint's folder and what stands behind it, as in FOLDER?unnorm_key=NAME; empty for none."""
    if "?" not in source or Path(source).exists():
        return source, ""
    name, _, options = source.rpartition("?")
    return name, options


def is_openvla(folder: Path) -> bool:
    return model_type(folder) == MODEL_TYPE


def is_oft(folder: Path) -> bool:
    return is_openvla(folder) and has_head(folder)


def model_type(folder: Path):
    """As the config.json in a folder says, LeRobot's as its 'type'; None where there is none. Needs no torch."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content.get("model_type", content.get("type")) if isinstance(content, dict) else None
