"""`vla security`: the SROS2 policy of our nodes for one robot, on standard output."""

from __future__ import annotations

import argparse

from vla_ros.bringup import NAMESPACE, ROBOT
from vla_ros.profile import load_profile
from vla_ros.security import access, policy_xml

HELP = "print who may say and hear what, for SROS2: vla security --robot husky > policy.xml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robot", default=ROBOT.default, help=f"{ROBOT.description} (default {ROBOT.default})")
    parser.add_argument("--compressed", action="store_true", help="images come on image_raw/compressed")
    parser.add_argument("--namespace", default=NAMESPACE.default, help=NAMESPACE.description)


def run(args: argparse.Namespace) -> int:
    print(policy_xml(access(load_profile(args.robot), args.compressed), args.namespace), end="")
    return 0
