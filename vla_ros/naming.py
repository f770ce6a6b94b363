"""Names of checkpoints that are brought from elsewhere: a repository of a hub, or an archive. And which files count.

No heavy imports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from vla_ros.errors import ConfigError

KEPT = (".json", ".safetensors", ".txt", ".model", ".jinja", ".yaml")  # all that is ever brought
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")  # which run code when they are read
PARTS = ("action_head", "noisy_action_projector", "proprio_projector", "vision_backbone")  # of OpenVLA-OFT: a file each
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
SCHEMES = ("https", "http", "file")
CHECKSUM = "#sha256="
WORD = r"[A-Za-z0-9_][\w.-]*"
HUB = re.compile(rf"(?P<repo>{WORD}/{WORD})(@(?P<revision>{WORD}(/{WORD})*))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """repo: ORG/NAME; revision: a branch, tag or commit."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


def hub_name(source: str) -> HubName | None:
    """ORG/NAME or ORG/NAME@REVISION, where no file or folder is called so; None for anything else."""
    found = HUB.fullmatch(source)
    if found is None or Path(source).exists():
        return None
    return HubName(found["repo"], found["revision"] or "main")


def is_archive(source: str) -> bool:
    """Whether it is the URL of an archive, with or without a checksum, and with or without options."""
    name = source.partition("?")[0].partition("#")[0]
    return urlsplit(name).scheme in SCHEMES and name.endswith(ARCHIVES)


def split_checksum(source: str) -> tuple[str, str]:
    """A URL and the SHA-256 that stands behind it, empty for none. Raises ConfigError."""
    url, _, checksum = source.partition(CHECKSUM)
    if "#" in url or (CHECKSUM in source and not re.fullmatch("[0-9a-f]{64}", checksum)):
        raise ConfigError(f"'{source}': behind a URL may stand {CHECKSUM} and 64 hexadecimal digits in lower case")
    if url.startswith("http:") and not checksum:
        raise ConfigError(f"'{source}' could be changed on its way: say https://, or the checksum, URL{CHECKSUM}...")
    return url, checksum


def pinned_title(folder: Path) -> str:
    """ORG/NAME@COMMIT for a folder in a hub's cache, the folder's name for another."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return f"{folder.parent.parent.name.removeprefix('models--').replace('--', '/', 1)}@{folder.name}"
    return folder.name


def leads_out(name: str) -> bool:
    """Whether a file's name within a checkpoint leads out of it."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name


def about_parts(names: Iterable[str]) -> str:
    """Of pickles that are parts of a model whose weights lie beside: without them these would say other things, and
    nothing would show it. Empty for none."""
    names = list(names)
    for part in PARTS:
        files = [name for name in names if PurePosixPath(name).name.startswith(part)]
        if not any(name.endswith(".safetensors") for name in files) and (text := about_pickles(files, part)):
            return text
    return ""


def about_pickles(names: Iterable[str], made: str = "model") -> str:
    """Of the pickles among the names of files: why they are not opened, and how to convert them to `made`.safetensors.
    Empty for none."""
    found = sorted(name for name in names if PurePosixPath(name).suffix in PICKLES)
    if not found:
        return ""
    stem = PurePosixPath(found[0]).name.partition("-0")[0].removesuffix(PurePosixPath(found[0]).suffix)
    files = str(PurePosixPath(found[0]).with_name(f"{stem}*{PurePosixPath(found[0]).suffix}"))
    code = ("import glob, torch; from safetensors.torch import save_file; save_file({name: tensor.clone() "
            f"for file in sorted(glob.glob('{files}')) for name, tensor in torch.load(file, map_location='cpu', "
            f"weights_only=True).items()}}, '{made}.safetensors')")
    return (f"{found[0]} is a pickle, which runs code when it is read, and is never opened; on a machine that may be "
            f'lost: python -c "{code}", then bring {made}.safetensors')
