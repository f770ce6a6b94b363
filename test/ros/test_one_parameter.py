"""Every kind of policy drives the simulated robot through the nodes of one launch file: only `policy` changes."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup import sim_system
from vla_ros.errors import CheckpointError
from vla_ros.guard import SETTLED
from vla_ros.kinematics import ArmKinematics
from vla_ros.nodes import convert, qos
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System
from vla_ros.policies import open_policy
from vla_ros.profile import load_profile

pytest.importorskip("torch", reason="models need it")
pytest.importorskip("aiohttp", reason="serving needs it: pip install 'vla_ros[serve]'")
sys.path += [str(Path(__file__).parents[1] / part) for part in (".", "faults")]
import openvla_samples  # noqa: E402
import vlm_samples  # noqa: E402
from inject import recording  # noqa: E402
from serving_samples import serving  # noqa: E402

PANDA, READY, SEED, LIMIT = load_profile("panda"), 120.0, 0, 2.0  # [s] LIMIT: simulated
MOVED = 0.005  # [rad]
OPENPI, OPENVLA = "a remote openpi policy", "a remote OpenVLA policy"


def replay(folder: Path, stack: ExitStack) -> str:
    recording(PANDA).save(str(folder / "circles.npz"))
    return f"replay:{folder / 'circles.npz'}"


def openvla(folder: Path, stack: ExitStack) -> str:
    return f"{openvla_samples.write(folder / 'openvla')}?rotation=hold"


def llava(folder: Path, stack: ExitStack) -> str:
    made = vlm_samples.write(folder)
    vlm_samples.described(made, action=dict(vlm_samples.DESCRIPTION["action"], horizon=8), least=0.0)
    return str(made)


def pi0(folder: Path, stack: ExitStack) -> str:
    """Its gripper, which means and deviations of a data set may lead beyond 0 to 1, is kept within them."""
    return str(vlm_samples.write_pi0(folder, actions_std=[0.005, 0.005, 0.005, 0.05]))


def native(folder: Path, stack: ExitStack) -> str:
    try:
        open_policy("native", PANDA)
    except CheckpointError as error:
        pytest.skip(str(error))
    return "native"


def remote_openpi(folder: Path, stack: ExitStack) -> str:
    served = stack.enter_context(serving(open_policy(native(folder, stack), PANDA), PANDA))
    return f"{served.address}?deadline=60"


def remote_openvla(folder: Path, stack: ExitStack) -> str:
    """At /act, one action an answer, which says nothing of what it means."""
    served = stack.enter_context(serving(open_policy(openvla(folder, stack), PANDA), PANDA))
    said = {"action": dict(vlm_samples.DESCRIPTION["action"], horizon=1), "images": {"image": "front"}}
    (folder / "server.yaml").write_text(yaml.safe_dump(said))
    return f"http://127.0.0.1:{served.port}/act?spec={folder / 'server.yaml'}&deadline=60"


SOURCES = {"oracle": lambda folder, stack: "oracle", "replay": replay, "native": native, "openvla": openvla,
           "llava": llava, "pi0": pi0, OPENPI: remote_openpi, OPENVLA: remote_openvla}
ABLE = ("oracle", "native", OPENPI)  # the others have random weights, or know nothing of the task


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", SOURCES)
def test_a_policy_drives_the_robot_by_one_parameter(kind, tmp_path):
    commands: list[list[float]] = []
    with ExitStack() as stack:
        what = sim_system(policy=SOURCES[kind](tmp_path, stack), mode="lockstep")
        system = stack.enter_context(System(what, domain=free_domain()))
        system.wait_ready(READY)
        client = stack.enter_context(system.client("watcher"))

        def on_command(message):
            positions = convert.command_from(message, PANDA).positions
            commands.append([positions[name] for name in PANDA.joints])
        client.subscribe(JointTrajectory, PANDA.command.topic, on_command, qos.EVERY_TICK)
        layout = client.reset("reach", SEED)
        executed = client.execute(layout.instruction, LIMIT, watch=system.check, timeout=READY)
    assert executed.outcome == ("succeeded" if kind in ABLE else "timed out"), executed.message
    way, arm = np.array(commands), ArmKinematics(PANDA)
    assert len(way) > 30 and np.ptp(way, axis=0).max() > MOVED
    assert (way >= arm.lower).all() and (way <= arm.upper).all()
    for part in motions(way):
        for order, limit in enumerate((arm.max_velocity, PANDA.motion.acceleration, PANDA.motion.jerk), 1):
            made = np.abs(np.diff(part, order, axis=0)) * PANDA.control_rate**order
            assert (made <= np.array(limit) * (1 + 1e-6)).all(), (order, made.max(axis=0))


def motions(way: np.ndarray) -> list[np.ndarray]:
    """What was commanded (any, N), parted where the arm had come to rest: a motion begins where it is measured."""
    still, parts, begin = 0, [], 0
    for i in range(1, len(way)):
        moves = bool((way[i] != way[i - 1]).any())
        if moves and still >= SETTLED * PANDA.control_rate:
            parts.append(way[begin:i])
            begin = i
        still = 0 if moves else still + 1
    return [*parts, way[begin:]]
