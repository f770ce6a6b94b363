"""ReplayPolicy: answers recorded chunks one after the other, to tell faults of the path from faults of a model."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from vla_ros.errors import CheckpointError
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec, require_compatible
from vla_ros.types import ActionChunk, Observation

LARGEST = 1 << 30  # [bytes] of a recording


class ReplayPolicy:
    """chunks: (K, T, D) values of `spec`. After the last one it refuses."""

    name = "replay"

    def __init__(self, chunks: np.ndarray, spec: ActionSpec, cameras: tuple[str, ...]):
        self.chunks, self.spec, self.cameras = np.asarray(chunks, float), spec, cameras
        self.reset()

    @classmethod
    def load(cls, file: str, profile: RobotProfile) -> ReplayPolicy:
        """Opens an .npz with 'chunks' (K, T, D) and 'names' (D,), in the robot's own action spec."""
        if not Path(file).is_file():
            raise CheckpointError(f"no recording {file}; expected an .npz with arrays 'chunks' and 'names'")
        try:
            require_small(Path(file))
            with np.load(file, allow_pickle=False) as data:
                chunks, names = data["chunks"], tuple(str(n) for n in data["names"])
        except (ValueError, KeyError, OSError, EOFError, TypeError, BadZipFile, MemoryError) as error:
            raise CheckpointError(f"{file} is not a recording with arrays 'chunks' and 'names': {error}") from error
        if chunks.ndim != 3 or chunks.shape[2] != len(names):
            raise CheckpointError(f"{file} holds chunks of shape {chunks.shape}, "
                                  f"expected (chunks, steps, {len(names)})")
        spec = ActionSpec.from_dict(profile.action.to_dict() | {"names": names, "horizon": chunks.shape[1]})
        require_compatible(spec, profile.action)
        return cls(chunks, spec, tuple(profile.cameras))

    def save(self, file: str) -> None:
        np.savez_compressed(file, chunks=self.chunks, names=np.array(self.spec.names))

    def infer(self, observation: Observation) -> ActionChunk:
        if self._next >= len(self.chunks):
            return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp,
                               refusal="the recording has ended")
        values = self.chunks[self._next]
        self._next += 1
        return ActionChunk(values, self.spec, observation.stamp)

    def reset(self) -> None:
        self._next = 0


def require_small(file: Path) -> None:
    """Raises CheckpointError for a recording that unpacks to more than any is."""
    with ZipFile(file) as packed:
        size = sum(member.file_size for member in packed.infolist())
    if size > LARGEST:
        raise CheckpointError(f"{file} unpacks to {size} bytes, at most {LARGEST} are read")
