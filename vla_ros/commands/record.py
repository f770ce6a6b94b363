"""`vla record`: what the policy node of a running system reads and answers, into a bag."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from vla_ros.bringup import ENVIRONMENT, NAMESPACE, ROBOT
from vla_ros.errors import ConfigError
from vla_ros.profile import load_profile

HELP = "record what a running policy node reads and answers: vla record FILE.mcap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the bag to make; it must not exist yet")
    parser.add_argument("--robot", default=ROBOT.default, help=f"{ROBOT.description} (default {ROBOT.default})")
    parser.add_argument("--compressed", action="store_true", help="images come on image_raw/compressed")
    parser.add_argument("--namespace", default=NAMESPACE.default, help=NAMESPACE.description)


def run(args: argparse.Namespace) -> int:
    """Until Ctrl-C or SIGTERM. Exit code 0, and 1 when nothing came."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    cameras = load_profile(args.robot).cameras
    try:
        from vla_ros.nodes.bag import BagWriter
        from vla_ros.nodes.recorder import Recorder
    except ImportError as error:
        raise ConfigError(f"a bag needs ROS 2, the interfaces of vla_ros, and mcap (pip install 'vla_ros[bag]'): "
                          f"{error}") from error
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    with BagWriter(args.file) as bag, Recorder(bag, cameras, args.compressed, args.namespace) as recorder:
        print(f"vla record: into {args.file}, until Ctrl-C; begin before the instruction is given", flush=True)
        recorder.spin_until(lambda: bool(stop))
    for topic, count in sorted(bag.counts.items()):
        print(f"{count:8} {topic}")
    return 0 if bag.counts.total() else 1
