"""`vla security`: the SROS2 policy of our nodes for one robot, on standard output; or a keystore that holds to it."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_ros.bringup import NAMESPACE, ROBOT
from vla_ros.errors import ConfigError
from vla_ros.profile import load_profile
from vla_ros.security import access, enclaves_of, policy_xml

HELP = "who may say and hear what, for SROS2: vla security --robot husky > policy.xml, or --keystore FOLDER"
POLICY_FILE = "vla_ros_policy.xml"  # in the keystore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robot", default=ROBOT.default, help=f"{ROBOT.description} (default {ROBOT.default})")
    parser.add_argument("--compressed", action="store_true", help="images come on image_raw/compressed")
    parser.add_argument("--namespace", default=NAMESPACE.default, help=NAMESPACE.description)
    parser.add_argument("--keystore", type=Path, metavar="FOLDER", help="make keys and signed permissions of every "
                        "process there, new or beside those of others (needs sros2, of a distribution of ROS 2)")


def run(args: argparse.Namespace) -> int:
    nodes = access(load_profile(args.robot), args.compressed)
    policy = policy_xml(nodes, args.namespace)
    if args.keystore is None:
        print(policy, end="")
        return 0
    fill(args.keystore, enclaves_of(nodes), policy)
    print(f"{args.keystore} has keys and permissions for {', '.join(enclaves_of(nodes))}\n"
          f"export ROS_SECURITY_KEYSTORE={args.keystore.resolve()} ROS_SECURITY_ENABLE=true "
          f"ROS_SECURITY_STRATEGY=Enforce")
    return 0


def fill(folder: Path, enclaves: list[str], policy: str) -> None:
    """Keys that are there stay, permissions are signed anew. Raises ConfigError without sros2, or for what it says."""
    try:
        from sros2 import errors, keystore
    except ImportError as error:
        raise ConfigError(f"keys are made by the Python package sros2, which cannot be imported ({error}): it comes "
                          f"with a distribution of ROS 2 (apt install ros-$ROS_DISTRO-sros2)") from error
    try:
        if not keystore.is_valid_keystore(folder):
            keystore.create_keystore(folder)
        file = folder / POLICY_FILE
        file.write_text(policy, encoding="utf-8")
        for name in enclaves:
            if not (folder / "enclaves" / name.strip("/") / "key.pem").exists():
                keystore.create_enclave(folder, name)
            keystore.create_permission(folder, name, file)
    except (errors.SROS2Error, OSError) as error:
        raise ConfigError(f"no keystore in {folder}: {error}") from error
