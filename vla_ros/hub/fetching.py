"""From a hub's repository to a folder in the hub's own cache, through `huggingface_hub`: pinned, and each file checked.

What was brought once is opened as it is, without asking the hub: a robot's model does not change by itself. The record
says which commit a name stood for.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

from vla_ros.errors import CheckpointError
from vla_ros.naming import KEPT, HubName, about_parts, about_pickles, leads_out

PART = 1 << 24  # [bytes] hashed at once
NAMED = 4  # files that an error names
NEEDED = "config.json, model.safetensors or its shards and their index, tokenizer.json"


def folder_of(name: HubName) -> Path:
    """On this machine, brought first where it is not. Raises CheckpointError."""
    return local(name) or fetch(name)


def home(name: HubName) -> Path:
    """Where the cache keeps a repository."""
    return Path(constants.HF_HUB_CACHE) / f"models--{name.repo.replace('/', '--')}"


def record_file(name: HubName) -> Path:
    return home(name) / "vla_ros" / f"{quote(name.revision, safe='')}.json"


def recorded(name: HubName) -> dict | None:
    """What a name stood for when it was brought: its commit, and a digest of each file."""
    try:
        return json.loads(record_file(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def local(name: HubName) -> Path | None:
    """The folder, where all of it is there: as recorded, or as another program brought it, which is checked first."""
    record = recorded(name)
    if record is not None:
        folder = home(name) / "snapshots" / record["commit"]
        return folder if all((folder / file).is_file() for file in record["files"]) else None
    try:
        folder = Path(snapshot_download(name.repo, revision=name.revision, local_files_only=True,
                                        allow_patterns=[f"*{suffix}" for suffix in KEPT]))
    except (LocalEntryNotFoundError, ValueError):
        return None
    blobs = {file.relative_to(folder).as_posix(): file.resolve().name for file in folder.rglob("*") if file.is_file()}
    if "config.json" not in blobs:
        return None
    digests = {file: f"sha256:{blob}" if len(blob) == 64 else "" for file, blob in blobs.items()}  # as the hub names it
    check(name, folder, digests)
    write_record(name, {"repo": name.repo, "revision": name.revision, "commit": folder.name, "files": digests})
    return folder


def fetch(name: HubName) -> Path:
    """Asks the hub which commit the name stands for, and brings what is missing of it. Raises CheckpointError."""
    try:
        info = HfApi().model_info(name.repo, revision=name.revision, files_metadata=True)
    except Exception as error:  # its own errors, and those of whatever HTTP library it has
        raise CheckpointError(unreachable(name, error)) from error
    files = {file.rfilename: file for file in info.siblings or ()}
    wanted = {file: said for file, said in files.items() if PurePosixPath(file).suffix in KEPT}
    if not any(file.endswith(".safetensors") for file in wanted):
        raise CheckpointError(f"{name} on {constants.ENDPOINT} has no .safetensors. {about_pickles(files)}".strip())
    if parts := about_parts(files):
        raise CheckpointError(f"{name} on {constants.ENDPOINT} is of several parts, and {parts}, with all other files")
    strange = [file for file in wanted if leads_out(file)]
    if strange:
        raise CheckpointError(f"{name} on {constants.ENDPOINT} names a file '{strange[0]}', which leads out of it")
    folder = home(name) / "snapshots" / info.sha
    require_room(name, sum(said.size or 0 for file, said in wanted.items() if not (folder / file).is_file()))
    if are_progress_bars_disabled():  # transformers does so while it loads weights
        enable_progress_bars()
    try:
        snapshot_download(name.repo, revision=info.sha, allow_patterns=[glob.escape(file) for file in wanted])
    except Exception as error:  # as above
        raise CheckpointError(f"{name} did not arrive whole: {first_line(error)}; vla fetch {name} goes on where it "
                              "ended, with the files that are missing") from error
    digests = {file: digest_said(said) for file, said in wanted.items()}
    check(name, folder, digests)
    write_record(name, {"repo": name.repo, "revision": name.revision, "commit": info.sha, "files": digests})
    return folder


def digest_said(said) -> str:
    """What the hub says of a file: the SHA-256 of a large one, of a small one git's name for it."""
    return f"sha256:{said.lfs.sha256}" if said.lfs else f"git:{said.blob_id}"


def digest(file: Path, kind: str) -> str:
    total = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {file.stat().st_size}\0".encode())
    with file.open("rb") as opened:
        while part := opened.read(PART):
            total.update(part)
    return f"{kind}:{total.hexdigest()}"


def check(name: HubName, folder: Path, digests: dict[str, str]) -> None:
    """Raises CheckpointError where a file is not what it should be; it is removed, so that it is brought again.

    digests: empty where none is known."""
    for file, wanted in digests.items():
        if not wanted:
            continue
        found = digest(folder / file, wanted.partition(":")[0])
        if found != wanted:
            (folder / file).resolve().unlink()
            (folder / file).unlink(missing_ok=True)
            raise CheckpointError(f"{file} of {name} is {found}, should be {wanted}: damaged or changed on its way. It "
                                  f"was removed; vla fetch {name} brings it again")


def require_room(name: HubName, size: int) -> None:
    home(name).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home(name)).free
    if size > free:
        raise CheckpointError(f"{name} needs {size / 1e9:.1f} GB more in {constants.HF_HUB_CACHE}, {free / 1e9:.1f} GB "
                              "are free")


def write_record(name: HubName, record: dict) -> None:
    file = record_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draft.replace(file)


def unreachable(name: HubName, error: Exception) -> str:
    """Why a checkpoint is not here, where it was looked for, and how to bring it."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    why = f"{constants.ENDPOINT} answers {status}" if status else f"{constants.ENDPOINT} cannot be asked"
    record = recorded(name)
    folder = home(name) / "snapshots" / record["commit"] if record else home(name)
    lacking = [file for file in record["files"] if not (folder / file).is_file()] if record else []
    what = f"lacks {', '.join(lacking[:NAMED])} ({len(lacking)})" if lacking else "is not"
    include = " ".join(f"--include '*{suffix}'" for suffix in KEPT)
    return (f"checkpoint {name} {what} on this machine, and {why}: {first_line(error)}. Looked for as folder "
            f"./{name.repo}, and in {folder}. To bring it: on a machine that reaches the hub, hf download {name.repo} "
            f"--revision {name.revision} {include} --local-dir {PurePosixPath(name.repo).name}; copy that folder here "
            f"({NEEDED}) and give its path as the policy, {PurePosixPath(name.repo).name}/")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
