"""`vla ask`: a question about what a camera sees, to the model alone or to a running system."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from vla_ros.bringup import ENVIRONMENT, NAMESPACE, POLICY, ROBOT
from vla_ros.errors import ConfigError

HELP = 'ask what the model sees: vla ask --image FILE "what is left of the red cube?"'
FORMATS = ("PNG", "JPEG")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("question", help="in words")
    add("--image", type=Path, metavar="FILE", help="PNG or JPEG to look at; without it a running system is asked")
    add("--policy", default=POLICY.default, help="with --image: native, or a checkpoint's folder (default native)")
    add("--robot", default=ROBOT.default, help=f"with --image: {ROBOT.description} (default {ROBOT.default})")
    add("--camera", default="", help="of a running system (default: the policy's first)")
    add("--namespace", default=NAMESPACE.default, help="of a running system")
    add("--wait", type=float, default=15.0, metavar="S", help="[s] to find a running system, and its answer (15)")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when there is an answer; else an error of one line, and 2."""
    question = " ".join(args.question.split())
    if not question:
        raise ConfigError('the question is empty; for example: "what is left of the red cube?"')
    answer = ask_system(question, args) if args.image is None else ask_model(question, args)
    print(f"{answer.text}\nconfidence {answer.confidence:.2f}")
    return 0


def ask_model(question: str, args: argparse.Namespace):
    """No ROS. Raises ConfigError, or what the policy raises."""
    from vla_ros.policies import open_policy
    from vla_ros.policy import require_answerer
    from vla_ros.profile import load_profile
    if args.camera:
        raise ConfigError("--camera is of a running system, and --image of none: give one of them")
    profile = load_profile(args.robot)
    policy = open_policy(args.policy, profile)
    answerer, camera = require_answerer(policy), profile.cameras[policy.cameras[0]]
    return answerer.ask(read_image(args.image, camera.width, camera.height), question)


def read_image(file: Path, width: int, height: int):
    """uint8 (height, width, 3) RGB of a PNG or JPEG of any size; says so when that changes its proportions."""
    import numpy as np
    from PIL import Image, ImageOps
    try:
        with Image.open(file, formats=FORMATS) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # all that PIL raises
        reason = getattr(error, "strerror", None) or "it is not a whole " + " or ".join(FORMATS) + " image"
        raise ConfigError(f"cannot read {file}: {reason}") from error
    if image.width * height != image.height * width:
        print(f"vla ask: {file} is {image.width} x {image.height} px; the model sees it squeezed to "
              f"{width} x {height} px, in other proportions", file=sys.stderr)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def ask_system(question: str, args: argparse.Namespace):
    """Raises NoSystemError when nothing runs, NoAnswerError when it cannot answer."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vla_ros.nodes.client import Client
    except ImportError as error:
        raise ConfigError(f"ROS 2 or the interfaces of vla_ros are not to be found: {error}") from error
    with Client("vla_ask", args.namespace) as client:
        return client.ask(question, args.camera, args.wait).answer
