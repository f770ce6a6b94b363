"""What a killed process leaves in shared memory is removed, and nothing that somebody uses."""

import fcntl
import subprocess
import sys
import uuid

import pytest

from vla_ros.nodes.shared_memory import FOLDER, files_of, remove_unused

HOLDS = """
import fcntl, mmap, sys
file = open(sys.argv[1], "r+b")
held = mmap.mmap(file.fileno(), 0) if sys.argv[2] == "map" else file
file.close() if sys.argv[2] == "map" else fcntl.flock(file, fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def named():
    """Makes files in shared memory, which are gone afterwards."""
    name, made = f"fastdds_test{uuid.uuid4().hex}", []

    def make(form: str = "{}"):
        made.append(FOLDER / form.format(name))
        made[-1].write_bytes(b"x" * 64)
        return made[-1]
    yield make
    for file in made:
        file.unlink(missing_ok=True)


def holder(file, how):
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(file), how], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("how", ["map", "open"])
def test_a_file_is_kept_as_long_as_a_process_has_it(named, how):
    file = named()
    child = holder(file, how)
    assert files_of(child.pid) == {file}
    assert remove_unused([file]) == set() and file.exists()
    child.kill()
    child.communicate()
    assert files_of(child.pid) == set()
    assert remove_unused([file]) == {file} and not file.exists()


def test_a_lock_tells_that_its_owner_lives_where_it_cannot_be_seen(named, monkeypatch):
    monkeypatch.setattr("vla_ros.nodes.shared_memory.files_of", lambda pid: set())
    files = {named(), named("{}_el"), named("sem.{}_mutex")}
    with next(f for f in files if f.name.endswith("_el")).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_unused(files) == set()
    assert remove_unused(files) == files and not any(f.exists() for f in files)


def test_files_of_others_are_no_business_of_ours(named):
    file = named("someone_elses_{}")
    assert remove_unused([file]) == set() and file.exists()
