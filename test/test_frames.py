"""The link tree against Pinocchio's forward kinematics."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from core_samples import PANDA

from vla_ros.nodes.frames import LinkTree, planar, rotation_rpy


def chained(tree: LinkTree, positions: dict[str, float]) -> dict[str, np.ndarray]:
    """root_from_link (4, 4) by link."""
    edges = [*tree.fixed_transforms(), *tree.transforms(positions)]
    poses = {tree.root: np.eye(4)}
    while len(poses) <= len(edges):
        for parent, child, transform in edges:
            if parent in poses:
                poses[child] = poses[parent] @ transform
    return poses


@pytest.mark.parametrize("seed", range(5))
def test_links_are_where_pinocchio_puts_them(seed):
    model = pin.buildModelFromUrdf(str(PANDA.urdf_path()))
    data, q = model.createData(), np.random.default_rng(seed).uniform(-0.5, 0.5, model.nq)
    pin.framesForwardKinematics(model, data, q)
    poses = chained(LinkTree(PANDA.urdf_path().read_text()), dict(zip(model.names[1:], q.tolist(), strict=True)))
    for name, pose in poses.items():
        np.testing.assert_allclose(pose, data.oMf[model.getFrameId(name)].homogeneous, atol=1e-9, err_msg=name)


def test_a_joint_that_mimics_follows_and_one_that_is_unknown_is_left_out():
    tree = LinkTree(PANDA.urdf_path().read_text())
    moved = {child for _, child, _ in tree.transforms({"panda_finger_joint1": 0.02})}
    assert moved == {"panda_leftfinger", "panda_rightfinger"}
    assert list(tree.transforms({})) == []


def test_roll_pitch_yaw_turn_about_fixed_axes():
    np.testing.assert_allclose(rotation_rpy(0.1, 0.2, 0.3), pin.rpy.rpyToMatrix(0.1, 0.2, 0.3), atol=1e-12)
    np.testing.assert_allclose(planar(1.0, 2.0, np.pi / 2) @ [1, 0, 0, 1], [1, 3, 0, 1], atol=1e-12)
