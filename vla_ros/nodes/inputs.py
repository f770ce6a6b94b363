"""The topics between which the policy node stands: what it reads, and its chunks. Relative names."""

from __future__ import annotations

from collections.abc import Iterable

from sensor_msgs.msg import CompressedImage, Image

JOINTS, INSTRUCTION, CHUNKS = "joint_states", "vla/instruction", "vla/action_chunk"


def cameras(names: Iterable[str], compressed: bool = False) -> dict[str, tuple[str, type]]:
    """Topic and message type of each camera's images, by the camera's name."""
    kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
    return {name: (f"camera/{name}/image_raw{suffix}", kind) for name in names}
