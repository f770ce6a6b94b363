"""Policies, one file each, opened by name: 'native', 'hold', 'replay:FILE.npz', a checkpoint's folder, an address."""

from __future__ import annotations

from pathlib import Path

from vla_ros.errors import UnknownNameError
from vla_ros.paths import shipped_checkpoint
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import is_address
from vla_ros.remote.opening import open_remote

NAMES = ("native", "hold", "replay:FILE.npz", "CHECKPOINT_FOLDER", "ws://HOST:PORT")


def open_policy(source: str, profile: RobotProfile) -> Policy:
    """The policy that `source` names, for a robot. 'native' is the checkpoint shipped for that robot.

    Raises UnknownNameError, CheckpointError, RemoteError, or ActionError when policy and robot disagree on what actions
    mean.
    """
    if is_address(source):
        return open_remote(source, profile)
    kind, _, rest = source.partition(":")
    if kind == "hold":
        from vla_ros.policies.hold import HoldPolicy
        return HoldPolicy(profile)
    if kind == "replay" and rest:
        from vla_ros.policies.replay import ReplayPolicy
        return ReplayPolicy.load(rest, profile)
    folder = checkpoint_folder(source, profile)
    from vla_ros.policies.native import NativePolicy
    return NativePolicy.load(folder, profile)


def checkpoint_folder(source: str, profile: RobotProfile) -> Path:
    """Where the checkpoint that `source` names is. Needs no torch. Raises UnknownNameError or CheckpointError."""
    if source == "native":
        return shipped_checkpoint(profile.name)
    if "/" in source or Path(source).exists():
        return Path(source)
    raise UnknownNameError("policy", source, NAMES)
