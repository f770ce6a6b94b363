"""`vla replay`: whether a policy answers a bag's observations as it did when they were recorded, byte for byte."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vla_ros.bringup import ENVIRONMENT, FILTER, POLICY, ROBOT
from vla_ros.errors import ConfigError

HELP = "replay a bag through a policy and compare the chunks: vla replay FILE.mcap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="a .mcap file, or the folder of one that `ros2 bag record` made")
    parser.add_argument("--robot", default=ROBOT.default, help=f"{ROBOT.description} (default {ROBOT.default})")
    parser.add_argument("--policy", default=POLICY.default, help=f"{POLICY.description} (default {POLICY.default})")
    parser.add_argument("--instruction-filter", default=FILTER.default, help=FILTER.description)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when all chunks are equal; 1 when one is not, and the first such is named."""
    for name, value in ENVIRONMENT.items():  # one thread, as the nodes: another number of them rounds otherwise
        os.environ.setdefault(name, value)
    try:
        from vla_ros.nodes.bag import BagReader
        from vla_ros.nodes.replaying import Replay
    except ImportError as error:
        raise ConfigError(f"a bag needs ROS 2, the interfaces of vla_ros, and mcap (pip install 'vla_ros[bag]'): "
                          f"{error}") from error
    from vla_ros.filter import InstructionFilter
    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    profile = load_profile(args.robot)
    bag, barred = BagReader(args.bag), InstructionFilter.load(args.instruction_filter or None).reason
    replay = Replay(bag, open_policy(args.policy, profile), profile, barred)
    compared = list(replay)
    different = [chunk for chunk in compared if chunk.difference]
    print(f"{len(compared) - len(different)} of {len(compared)} chunks equal, byte for byte in tokens and values")
    if replay.lacking:
        print(f"{replay.lacking} chunks are not in the bag; a policy that remembers may differ after them")
    if different:
        first = different[0]
        print(f"first difference, chunk {first.sequence} of {first.stamp / 1e9:.3f} s: {first.difference}")
    return 1 if different else 0
