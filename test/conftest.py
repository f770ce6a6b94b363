"""Settings of the property tests, and what several files of tests share.

Property tests have the same examples in every run, and no limit of wall-clock time.
"""

import pytest
from hypothesis import settings

settings.register_profile("vla_ros", deadline=None, derandomize=True)
settings.load_profile("vla_ros")


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory):
    """A folder with one episode each of stack and push, and still scenes."""
    from vla_ros.training import demos
    folder = tmp_path_factory.mktemp("demonstrations")
    for shard in demos.shards(folder, ["stack", "push"], episodes=1, stills=8):
        demos.write(shard)
    return folder


@pytest.fixture(scope="session")
def frames(demonstrations):
    """All frames of them."""
    from vla_ros.training import recording
    return recording.load([demonstrations])
