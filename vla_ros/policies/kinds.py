"""The kinds of policies: how each is named, what it needs, and whether it can run here. No heavy imports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec

from vla_ros.errors import CheckpointError
from vla_ros.paths import shipped_checkpoint
from vla_ros.profile import RobotProfile

MODEL = ("torch", "transformers", "tokenizers", "safetensors")
REMOTE = ("aiohttp", "msgpack")
HUB = ("huggingface_hub", "filelock")
SMALL = "one core; weights of under 50 MB"
HALF = "2 bytes of memory a parameter in bfloat16"


@dataclass(frozen=True)
class Kind:
    """form: as `policy:=` takes it; what: in words; says: where its ActionSpec is from; packages: Python's, that it
    imports; extra: of this package that brings those which nothing else needs; memory: and what else the machine must
    have; docs: where more stands."""

    form: str
    what: str
    says: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    docs: str = ""
    memory: str = ""

    @property
    def lacking(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]

    def hindrance(self, profile: RobotProfile) -> str:
        """Why it cannot run here; empty where it can."""
        if self.form == "native":
            try:
                shipped_checkpoint(profile.name)
            except CheckpointError as error:
                return str(error)
        lacking = self.lacking
        brings = f": pip install 'vla_ros[{self.extra}]'" if self.extra else ""
        return f"lacks {', '.join(lacking)}{brings}" if lacking else ""


KINDS = (
    Kind("native", "the model trained by this project that ships for the robot", "its config.json", MODEL,
         docs="docs/default_model.md", memory=SMALL),
    Kind("CHECKPOINT_FOLDER", "a checkpoint of the same kind, from `vla train`", "its config.json", MODEL,
         memory=SMALL),
    Kind("OPENVLA_FOLDER?unnorm_key=NAME", "OpenVLA as it was published", "its statistics and the options",
         (*MODEL, "PIL"), docs="docs/openvla.md", memory=f"{HALF}, 15 GB for 7.5 billion"),
    Kind("OFT_FOLDER?spec=FILE", "OpenVLA-OFT: a chunk in one pass, by a head of its own",
         "the file, or vla.yaml in the folder", (*MODEL, "PIL"), docs="docs/openvla.md", memory=f"{HALF}, 16 GB"),
    Kind("VLM_FOLDER?spec=FILE", "a vision-language model whose words are actions, as bins or FAST",
         "the file, or vla.yaml in the folder", (*MODEL, "scipy", "PIL"), docs="docs/vlm.md", memory=HALF),
    Kind("PI0_FOLDER?spec=FILE", "pi0 in the layout of transformers or of LeRobot",
         "the file, or vla.yaml in the folder", (*MODEL, "PIL"), docs="docs/vlm.md", memory=HALF),
    Kind("ORG/NAME@REVISION", "any of these checkpoints, from a hub: brought once, and pinned", "as for a folder",
         HUB, docs="docs/checkpoints.md", memory="as for a folder, and as much of the disk"),
    Kind("https://HOST:PORT/FILE.tar.gz#sha256=HEX", "any of these checkpoints, as an archive", "as for a folder", HUB,
         docs="docs/checkpoints.md", memory="as for a folder, and twice as much of the disk"),
    Kind("lerobot:FOLDER?python=FILE", "a LeRobot checkpoint in LeRobot's own Python", "vla.yaml in the folder", REMOTE,
         "remote", "docs/lerobot.md"),
    Kind("ws://HOST:PORT", "a policy elsewhere, behind `vla serve`", "the server", REMOTE, "remote", "docs/remote.md"),
    Kind("ws://HOST:PORT?spec=FILE", "openpi's server", "the file", REMOTE, "remote", "docs/remote.md"),
    Kind("http://HOST:PORT/act?spec=FILE", "OpenVLA's server", "the file", REMOTE, "remote", "docs/remote.md"),
    Kind("gr00t://HOST:PORT?spec=FILE", "Isaac GR00T's server", "the file", ("zmq", "aiohttp", "msgpack"), "remote",
         "docs/remote.md"),
    Kind("replay:FILE.npz", "actions as they were recorded", "the robot's profile"),
    Kind("oracle", "the expert, which is told the truth by the simulator (sim/truth): no robot has it",
         "the robot's profile"),
    Kind("hold", "stays where it is", "the robot's profile"),
)


def spec_of(kind: Kind, profile: RobotProfile) -> dict | None:
    """The ActionSpec that is known before anything is opened, as plain data."""
    if kind.says == "the robot's profile":
        return profile.action.to_dict()
    if kind.form == "native" and not kind.hindrance(profile):
        return json.loads((shipped_checkpoint(profile.name) / "config.json").read_text())["action_spec"]
    return None
