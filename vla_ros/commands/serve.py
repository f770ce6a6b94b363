"""`vla serve`: a policy for robots elsewhere, over openpi's protocol (policy:=ws://HOST:PORT) and OpenVLA's (/act)."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal

from vla_ros.bringup import ROBOT, THREADS
from vla_ros.cli import at_least
from vla_ros.errors import ConfigError
from vla_ros.remote.address import TOKEN, is_address

HELP = "serve a policy to robots elsewhere: vla serve --policy native --robot panda, there policy:=ws://HOST:8000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--policy", default="native", help="native, hold, replay:FILE.npz or a checkpoint's folder (default native)")
    add("--robot", default=ROBOT.default, help=f"{ROBOT.description} (default {ROBOT.default})")
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine alone); beyond it, the "
                                            f"environment's {TOKEN} is what clients must know")
    add("--port", type=at_least(0), default=8000, help="0 takes a free one (default 8000)")
    add("--clients", type=at_least(1), default=32, help="robots at a time, at most (default 32)")
    add("--batch", type=at_least(1), default=8, help="of the robots that wait, so many at most are inferred for "
                                                     "at once, where the policy can (default 8)")
    add("--certificate", default="", metavar="PEM", help="for TLS, with --key; clients then say wss://")
    add("--key", default="", metavar="PEM", help="of the certificate")
    add("--plain", action="store_true", help="the network is trusted: beyond this machine without TLS")


def run(args: argparse.Namespace) -> int:
    """Until Ctrl-C or SIGTERM."""
    try:
        from vla_ros.serving.engine import Engine
        from vla_ros.serving.server import Door, Server
    except ImportError as error:
        raise ConfigError("serving needs aiohttp, msgpack and prometheus-client: pip install 'vla_ros[serve]' "
                          f"({error})") from error
    for name, value in THREADS.items():  # before torch is loaded, which counts them then
        os.environ.setdefault(name, value)
    from vla_ros.evaluation.identity import named
    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    from vla_ros.remote.messages import metadata
    if args.port > 65535:
        raise ConfigError(f"port {args.port} must be at most 65535")
    if is_address(args.policy):
        raise ConfigError(f"{args.policy} is served already: the robots can ask it themselves")
    door = Door(args.host, args.port, os.environ.get(TOKEN, ""), args.certificate, args.key, args.plain, args.clients)
    profile = load_profile(args.robot)
    policy = open_policy(args.policy, profile)
    said = metadata(policy, profile, named(args.policy, profile.name))
    asyncio.run(serve(Server(Engine(policy, profile, args.batch), said, door), policy.name))
    return 0


async def serve(server, name: str) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    port = await server.start()
    scheme = "wss" if server.door.certificate else "ws"
    print(f"vla serve: {name} at {scheme}://{server.door.host}:{port}", flush=True)
    await ended.wait()
    await server.stop()
