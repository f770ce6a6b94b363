"""From the URL of an archive to a folder: brought once, its checksum recorded, unpacked file by file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock
from huggingface_hub.file_download import http_get

from vla_ros.errors import CheckpointError
from vla_ros.hub.fetching import digest, first_line
from vla_ros.naming import KEPT, about_parts, about_pickles, leads_out, split_checksum

FOLDER, RECORD = "checkpoint", "record.json"


def folder_of(source: str, again: bool = False) -> Path:
    """URL or URL#sha256=HEX. again: bring it, whatever is there. Raises ConfigError or CheckpointError."""
    url, checksum = split_checksum(source)
    home = cache() / hashlib.sha256(source.encode()).hexdigest()[:20]
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        if again or not (home / RECORD).is_file():
            (home / RECORD).unlink(missing_ok=True)
            found = unpack(bring(url, home), home / FOLDER, checksum, url)
            (home / RECORD).write_text(json.dumps({"url": url, "sha256": found}) + "\n", encoding="utf-8")
    return root(home / FOLDER, url)


def recorded(source: str) -> dict:
    """url and sha256 of what was brought."""
    return json.loads((cache() / hashlib.sha256(source.encode()).hexdigest()[:20] / RECORD).read_text(encoding="utf-8"))


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla_ros" / "archives"


def bring(url: str, home: Path) -> Path:
    """The archive as a file. What arrived before a connection broke is kept, and gone on with."""
    if url.startswith("file:"):
        file = Path(url2pathname(urlsplit(url).path))
        if not file.is_file():
            raise CheckpointError(f"no file {file}")
        return file
    part, whole = home / "archive.part", home / "archive"
    with part.open("ab") as opened:
        try:
            http_get(url, opened, resume_size=opened.tell(), displayed_filename=PurePosixPath(url).name)
        except Exception as error:  # its own errors, and those of whatever HTTP library it has
            raise CheckpointError(f"{url} did not arrive: {first_line(error)}; what did is kept, and the next try goes "
                                  "on from there. Without a network: copy the archive here, unpack it, and give the "
                                  "folder") from error
    return part.replace(whole)


def unpack(archive: Path, folder: Path, checksum: str, url: str) -> str:
    """Its SHA-256. Raises CheckpointError for another than `checksum`, and for an archive with a way out."""
    found = digest(archive, "sha256").partition(":")[2]
    fresh = folder.with_name("new")
    try:
        if checksum not in ("", found):
            raise CheckpointError(f"{url} has SHA-256 {found}, should have {checksum}: damaged or changed on its way")
        shutil.rmtree(fresh, ignore_errors=True)
        extract(archive, fresh, url)
        root(fresh, url)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if not url.startswith("file:"):
            archive.unlink()
    return found


@dataclass(frozen=True)
class Member:
    """Of an archive. size [bytes], once it is unpacked; kind: 'file', 'folder', or 'link', which is anything else."""

    name: str
    size: int
    kind: str


def extract(archive: Path, folder: Path, url: str) -> None:
    """Files that a checkpoint is made of; others are left out, and where one leads out nothing is unpacked."""
    with opened(archive, url) as (members, read):
        for member in members:
            if member.kind == "link" or leads_out(member.name):
                raise CheckpointError(f"{url}: '{member.name}' is a link, or leads out of the archive")
        kept = [m for m in members if m.kind == "file" and PurePosixPath(m.name).suffix in KEPT]
        if parts := about_parts(m.name for m in members):
            raise CheckpointError(f"{url} holds a model of several parts, and {parts}, with all other files")
        size, free = sum(member.size for member in kept), shutil.disk_usage(archive.parent).free
        if size > free:
            raise CheckpointError(f"{url} unpacks to {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        for member in kept:
            place = folder / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            with read(member.name) as source, place.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        if not kept:
            raise CheckpointError(f"{url} holds no checkpoint. {about_pickles(m.name for m in members)}".strip())


@contextmanager
def opened(archive: Path, url: str) -> Iterator[tuple[list[Member], Callable]]:
    """Members, and a function from a member's name to what is in it."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                members = [Member(i.filename, i.file_size, "folder" if i.is_dir() else "file")
                           for i in packed.infolist()]
                yield members, packed.open
        else:
            with tarfile.open(archive) as packed:
                members = [Member(m.name, m.size, "file" if m.isreg() else "folder" if m.isdir() else "link")
                           for m in packed.getmembers()]
                yield members, packed.extractfile
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{url} cannot be unpacked: {first_line(error)}") from error


def root(folder: Path, url: str) -> Path:
    """The folder with config.json: of all that was unpacked, or of the only folder in it."""
    inside = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [path for path in inside if (path / "config.json").is_file()]
    if not found:
        raise CheckpointError(f"{url} has no config.json, neither at its top nor in a folder there")
    return found[0]
