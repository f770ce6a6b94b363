"""`vla fetch`: brings a checkpoint to this machine ahead of time."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_ros.errors import ConfigError
from vla_ros.naming import hub_name, is_archive, pinned_title

HELP = "bring a checkpoint to this machine: vla fetch ORG/NAME, there policy:=ORG/NAME"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="ORG/NAME or ORG/NAME@REVISION of a hub (HF_ENDPOINT says which), or the URL of "
                                     "an archive, https://HOST/FILE.tar.gz#sha256=HEX")


def run(args: argparse.Namespace) -> int:
    """Brings the newest of a branch, whatever is there already: that is what this command is for."""
    if is_archive(args.name):
        from vla_ros.hub import archives
        folder = archives.folder_of(args.name, again=True)
        what = f"{args.name.partition('#')[0]}#sha256={archives.recorded(args.name)['sha256']}"
    elif name := hub_name(args.name):
        from vla_ros.hub import fetching
        folder = fetching.fetch(name)
        what = pinned_title(folder)
    else:
        what = "is here already" if Path(args.name).exists() else "names nothing that could be brought"
        raise ConfigError(f"'{args.name}' {what}: say ORG/NAME, ORG/NAME@REVISION, or the URL of a .zip, .tar or "
                          ".tar.gz")
    files = [file for file in folder.rglob("*") if file.is_file()]
    print(f"{what}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
    print(folder)
    return 0
