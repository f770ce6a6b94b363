"""Checkpoints by hub name and by archive: against a hub on this machine, through `huggingface_hub` as it is."""

import hashlib
import io
import json
import pickle
import shlex
import shutil
import tarfile
import zipfile

import hub_samples as hubs
import huggingface_hub
import openvla_samples as samples
import pytest
import torch
from core_samples import PANDA, observation
from hub_samples import COMMIT, NEWER, REPO
from safetensors.torch import load_file

from vla_ros.cli import main
from vla_ros.errors import CheckpointError, ConfigError
from vla_ros.evaluation.identity import named
from vla_ros.hub import archives, fetching
from vla_ros.naming import about_parts, about_pickles, hub_name, is_archive, split_checksum
from vla_ros.policies import checkpoint_folder, open_policy
from vla_ros.remote.address import is_address

NAME = hub_name(REPO)
WEIGHTS = "model.safetensors"
FILES = {"config.json": b"{}", WEIGHTS: bytes(range(256)) * 2000, "fast/tokenizer.json": b"[]", "README.md": b"text",
         "modeling.py": b"open('touched', 'w')", "pytorch_model.bin": b"pickle"}
KEPT = {"config.json", WEIGHTS, "fast/tokenizer.json"}


def point(monkeypatch, address):
    """As the environment's HF_ENDPOINT does before the library is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                        address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture(autouse=True)
def nothing_but_here(tmp_path, monkeypatch):
    """An empty cache, no hub, and an empty working directory."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    point(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "archives"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture
def hub(monkeypatch):
    made = hubs.Hub(dict(FILES))
    with hubs.serving(made) as address:
        point(monkeypatch, address)
        yield made


def inside(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


# Names

@pytest.mark.parametrize("source,meant", [
    ("openvla/openvla-7b", ("openvla/openvla-7b", "main")), ("a/b@v1.0", ("a/b", "v1.0")),
    ("a/b@refs/pr/3", ("a/b", "refs/pr/3")), ("./a/b", None), ("a/b/", None), ("/a/b", None), ("a/b/c", None),
    ("../b", None), ("a/b@../../x", None), ("a/..", None), ("native", None), ("a/b@", None)])
def test_what_is_a_hub_name(source, meant):
    found = hub_name(source)
    assert (found and (found.repo, found.revision)) == meant


def test_a_folder_of_that_name_comes_first(tmp_path):
    (tmp_path / "empty" / REPO).mkdir(parents=True)
    assert hub_name(REPO) is None and checkpoint_folder(REPO, PANDA).is_dir()


def test_an_archive_is_no_server():
    for url in ("https://a/b.tar.gz", "http://a/b.zip#sha256=00", "file:///a/b.tar?camera=front"):
        assert is_archive(url) and not is_address(url)
    for url in ("ws://a:1/b.zip", "http://a:8000/act?spec=b.zip", "b.zip"):
        assert not is_archive(url)


@pytest.mark.parametrize("source", ["http://a/b.zip", "https://a/b.zip#sha256=12", "https://a/b.zip#md5=12"])
def test_a_url_without_what_makes_it_sure(source):
    with pytest.raises(ConfigError, match="sha256"):
        split_checksum(source)


# From a hub

def test_what_is_brought_is_pinned_whole_and_nothing_that_runs(hub):
    folder = checkpoint_folder(REPO, PANDA)
    assert folder.name == COMMIT and inside(folder) == KEPT
    assert all((folder / name).read_bytes() == FILES[name] for name in KEPT)
    record = json.loads(fetching.record_file(NAME).read_text())
    assert record["commit"] == COMMIT and set(record["files"]) == KEPT
    assert record["files"][WEIGHTS] == f"sha256:{hashlib.sha256(FILES[WEIGHTS]).hexdigest()}"
    assert named(REPO, "panda").startswith(f"{REPO}@{COMMIT}@")


def test_what_was_brought_is_not_asked_for_again(hub):
    first, asked = checkpoint_folder(REPO, PANDA), len(hub.asked)
    hub.commit, hub.files["config.json"] = NEWER, b"[]"
    assert checkpoint_folder(REPO, PANDA) == first and len(hub.asked) == asked
    assert main(["fetch", REPO]) == 0
    assert checkpoint_folder(REPO, PANDA).name == NEWER
    assert (checkpoint_folder(REPO, PANDA) / "config.json").read_bytes() == b"[]"


def test_a_commit_can_be_named(hub, capsys):
    assert main(["fetch", f"{REPO}@{COMMIT}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{REPO}@{COMMIT}: 3 files, 0.5 MB" and said[1].endswith(COMMIT)


def test_a_broken_connection_is_gone_on_with(hub):
    hub.broken = [200_000]
    checkpoint_folder(REPO, PANDA)
    ranges = [wanted for method, path, wanted in hub.asked if method == "GET" and path.endswith(WEIGHTS)]
    assert len(ranges) == 2 and ranges[0] == "" and 0 < int(ranges[1][6:-1]) <= 200_000


@pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
def test_what_is_not_as_the_hub_says_is_refused_and_removed(hub, file):
    hub.files["config.json"] = b'{"a": 1}'
    hub.altered = {file}
    with pytest.raises(CheckpointError, match=f"{file} of {REPO}@main is .*damaged or changed"):
        checkpoint_folder(REPO, PANDA)
    assert fetching.local(NAME) is None
    hub.altered = set()
    assert (checkpoint_folder(REPO, PANDA) / file).read_bytes() == hub.files[file]


def test_a_repository_that_would_lose_a_part_of_its_model_is_refused(hub):
    hub.files = FILES | {"proprio_projector--150000_checkpoint.pt": b"pickle"}
    with pytest.raises(CheckpointError, match="is of several parts, and proprio_projector--150.*is a pickle"):
        checkpoint_folder(REPO, PANDA)
    assert not any(method == "GET" and "resolve" in path for method, path, _ in hub.asked)


def test_a_repository_of_pickles_is_refused_before_anything_is_brought(hub):
    hub.files = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    with pytest.raises(CheckpointError, match="no .safetensors. pytorch_model.bin is a pickle.*torch.load"):
        checkpoint_folder(REPO, PANDA)
    assert not any(method == "GET" and "resolve" in path for method, path, _ in hub.asked)


def test_a_name_that_leads_out_is_refused(hub):
    hub.files = {"../../outside.json": b"{}", WEIGHTS: b""}
    with pytest.raises(CheckpointError, match="leads out"):
        checkpoint_folder(REPO, PANDA)


def test_more_than_the_disk_holds(hub, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(CheckpointError, match="needs 0.0 GB more.*are free"):
        checkpoint_folder(REPO, PANDA)


def test_without_a_network_one_message_says_what_to_do(capsys):
    assert main(["doctor", "--policy", REPO]) == 2
    said = capsys.readouterr().err
    for part in (f"checkpoint {REPO}@main is not on this machine", "http://127.0.0.1:9 cannot be asked", f"./{REPO}",
                 str(fetching.home(NAME)), f"hf download {REPO} --revision main --include '*.json'", "config.json"):
        assert part in said
    assert said.count("\n") == 1


def test_a_hub_that_does_not_know_the_name(hub):
    with pytest.raises(CheckpointError, match="answers 404"):
        checkpoint_folder("someone/else", PANDA)


def test_without_a_network_what_is_missing_of_it_is_named(hub, monkeypatch):
    folder = checkpoint_folder(REPO, PANDA)
    point(monkeypatch, "http://127.0.0.1:9")
    assert checkpoint_folder(REPO, PANDA) == folder
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {WEIGHTS} \\(1\\) on this machine"):
        checkpoint_folder(REPO, PANDA)


def test_what_another_program_brought_is_taken_once_it_was_checked(hub, monkeypatch):
    folder = huggingface_hub.snapshot_download(REPO, allow_patterns=["*.json", "*.safetensors"])
    point(monkeypatch, "http://127.0.0.1:9")
    assert str(checkpoint_folder(REPO, PANDA)) == folder
    fetching.record_file(NAME).unlink()
    (fetching.home(NAME) / "blobs" / hub.etag(WEIGHTS)).write_bytes(b"other")
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} of {REPO}@main is sha256"):
        checkpoint_folder(REPO, PANDA)


def test_a_policy_opens_by_its_name(hub, tmp_path):
    made = samples.write(tmp_path / "openvla", shards=2)
    hub.files = {name: (made / name).read_bytes() for name in inside(made)}
    options = "?unnorm_key=bridge_orig&rotation=hold"
    here, brought = (open_policy(f"{source}{options}", PANDA) for source in (made, REPO))
    seen = observation(PANDA)
    assert (here.infer(seen).values == brought.infer(seen).values).all()


# From an archive

def packed(path, files, prefix="small/"):
    """A .tar.gz or .zip."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as made:
            for name, content in files.items():
                made.writestr(prefix + name, content)
    else:
        with tarfile.open(path, "w:gz") as made:
            for name, content in files.items():
                entry = tarfile.TarInfo(prefix + name)
                entry.size = len(content)
                made.addfile(entry, io.BytesIO(content))
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])
@pytest.mark.parametrize("prefix", ["", "./", "small/"])
def test_an_archive_becomes_a_folder_without_what_runs(tmp_path, kind, prefix):
    archive = packed(tmp_path / "from" / kind, FILES, prefix)
    url = f"{archive.as_uri()}#sha256={sha256(archive)}"
    folder = checkpoint_folder(f"{url}?camera=front", PANDA)
    assert inside(folder) == KEPT and (folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    archive.unlink()
    assert checkpoint_folder(url, PANDA) == folder


def test_an_archive_over_http_is_gone_on_with_by_the_next_try(hub, tmp_path):
    archive = packed(tmp_path / "from" / "a.zip", FILES)
    hub.files, hub.broken, hub.refusing = {"a.zip": archive.read_bytes()}, [100_000], 1
    url = f"{huggingface_hub.constants.ENDPOINT}/a.zip#sha256={sha256(archive)}"
    with pytest.raises(CheckpointError, match="what did is kept"):
        checkpoint_folder(url, PANDA)
    assert inside(checkpoint_folder(url, PANDA)) == KEPT
    ranges = [wanted for _, path, wanted in hub.asked if path == "/a.zip"]
    assert len(ranges) == 3 and 0 < int(ranges[2][6:-1]) <= 100_000


def test_an_archive_with_another_checksum_is_refused_and_not_kept(tmp_path, capsys):
    archive = packed(tmp_path / "from" / "a.zip", FILES)
    with pytest.raises(CheckpointError, match="damaged or changed"):
        checkpoint_folder(f"{archive.as_uri()}#sha256={'0' * 64}", PANDA)
    assert not inside(tmp_path / "archives") - {p for p in inside(tmp_path / "archives") if p.endswith("lock")}
    assert main(["fetch", archive.as_uri()]) == 0
    assert f"#sha256={sha256(archive)}" in capsys.readouterr().out


def link(name, target, kind):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize("entry", [
    tarfile.TarInfo("../outside.json"), tarfile.TarInfo("/outside.json"),
    link("tokenizer.json", "/etc/passwd", tarfile.SYMTYPE), link("tokenizer.json", "../../x", tarfile.LNKTYPE),
    link("pipe.json", "", tarfile.FIFOTYPE)], ids=lambda e: f"{e.name} {e.linkname}")
def test_an_archive_that_leads_out(tmp_path, entry):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as made:
        for name in ("config.json", WEIGHTS):
            made.addfile(tarfile.TarInfo(name), io.BytesIO())
        made.addfile(entry, io.BytesIO())
    with pytest.raises(CheckpointError, match="is a link, or leads out"):
        checkpoint_folder(archive.as_uri(), PANDA)
    assert not list(tmp_path.rglob("config.json")) and not list(tmp_path.rglob("outside.json"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x1f\x8b\x08 no", b"no archive" * 100])
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be unpacked|holds no checkpoint"):
        checkpoint_folder((tmp_path / "a.tar").as_uri(), PANDA)


def test_an_archive_that_unpacks_to_more_than_the_disk_holds(tmp_path, monkeypatch):
    archive = packed(tmp_path / "from" / "a.zip", FILES)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(CheckpointError, match="unpacks to 0.0 GB.*are free"):
        checkpoint_folder(archive.as_uri(), PANDA)


def test_an_archive_of_pickles(tmp_path):
    archive = packed(tmp_path / "from" / "a.zip", {"pytorch_model.bin": b"pickle"})
    with pytest.raises(CheckpointError, match="holds no checkpoint. small/pytorch_model.bin is a pickle"):
        checkpoint_folder(archive.as_uri(), PANDA)


def test_an_archive_that_would_lose_a_part_of_its_model(tmp_path):
    part = {"action_head--150000_checkpoint.pt": b"pickle"}
    archive = packed(tmp_path / "from" / "a.zip", FILES | part)
    with pytest.raises(CheckpointError, match="of several parts, and small/action_head--150.*is a pickle"):
        checkpoint_folder(archive.as_uri(), PANDA)
    converted = FILES | part | {"action_head.safetensors": b"weights"}
    assert checkpoint_folder(packed(tmp_path / "from" / "b.zip", converted).as_uri(), PANDA)


# Pickles

def code_said(names, said=about_pickles):
    """What the command of the message runs, taken apart as a shell would."""
    command = shlex.split(said(names).partition(": ")[2].partition(", then bring")[0])
    assert command[:2] == ["python", "-c"] and len(command) == 3
    return command[2]


def test_the_command_that_is_given_converts(tmp_path, monkeypatch):
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    for i, (name, tensor) in enumerate(tensors.items()):
        torch.save({name: tensor}, tmp_path / f"pytorch_model-0000{i + 1}-of-00002.bin")
    monkeypatch.chdir(tmp_path)
    exec(code_said(file.name for file in tmp_path.iterdir()), {})
    made = load_file(tmp_path / WEIGHTS)
    assert made.keys() == tensors.keys() and all(torch.equal(made[name], tensors[name]) for name in tensors)


def test_the_command_for_a_part_of_a_model_names_that_part(tmp_path, monkeypatch):
    torch.save({"module.a": torch.ones(2)}, tmp_path / "action_head--150000_checkpoint.pt")
    (tmp_path / "optimizer.pt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    exec(code_said(["optimizer.pt", "action_head--150000_checkpoint.pt"], about_parts), {})
    assert list(load_file(tmp_path / "action_head.safetensors")) == ["module.a"]
    assert about_parts(["optimizer.pt", "model.safetensors"]) == ""


def test_the_command_that_is_given_runs_nothing_of_a_pickle(tmp_path, monkeypatch):
    class Touch:
        def __reduce__(self):
            return open, (str(tmp_path / "touched"), "w")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Touch()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        exec(code_said(["pytorch_model.bin"]), {})
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["nowhere", "./here", "ws://a:8000"])
def test_what_cannot_be_fetched(name, capsys):
    assert main(["fetch", name]) == 2
    assert "ORG/NAME" in capsys.readouterr().err
