"""Robot profiles are read strictly: every misspelt, missing or wrong entry is a ConfigError that names it."""

import copy

import pytest
import yaml
from core_samples import ROBOTS

from vla_ros.errors import ConfigError, UnknownNameError, VlaError
from vla_ros.profile import RobotProfile, build, config_folder, load_profile, resolve_uri

DATA = {name: yaml.safe_load((config_folder() / "robots" / f"{name}.yaml").read_text()) for name in ROBOTS}
FREE = {"action.gripper"}  # may be empty


def entries(data, path=()):
    """(path, value) of every entry of nested mappings and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key), value
        yield from entries(value, (*path, key))


def holder(data, path):
    """What the last key of `path` is in."""
    for key in path[:-1]:
        data = data[key]
    return data


KEYS = [(robot, path) for robot, data in DATA.items() for path, _ in entries(data)
        if isinstance(path[-1], str) and path[:-1] != ("cameras",)]
VALUES = [(robot, path, value) for robot, data in DATA.items() for path, value in entries(data)]


def name_of(case):
    return ".".join(map(str, case)) if isinstance(case, tuple) else None


@pytest.fixture
def write(tmp_path):
    """Writes text or data to a fresh robot file and gives its name."""
    def to_file(data) -> str:
        file = tmp_path / "robot.yaml"
        file.write_bytes(data if isinstance(data, bytes) else yaml.safe_dump(data).encode())
        return str(file)
    return to_file


def load(write, data) -> RobotProfile:
    return load_profile.__wrapped__(write(data))  # past the cache: tests write the same name again


@pytest.mark.parametrize("robot", ROBOTS)
def test_shipped_robots_load_and_find_their_description(robot):
    profile = load_profile(robot)
    assert profile.name == robot and profile.urdf_path().is_file()
    assert profile.ticks_per_step * profile.control_period_ns == pytest.approx(profile.action.period_ns, abs=10)


@pytest.mark.parametrize("robot,path", KEYS, ids=name_of)
def test_a_misspelt_key_is_named_with_the_right_one(write, robot, path):
    data = copy.deepcopy(DATA[robot])
    inner = holder(data, path)
    inner[path[-1] + "x"] = inner.pop(path[-1])
    with pytest.raises(ConfigError, match=f"did you mean '{path[-1]}'") as caught:
        load(write, data)
    assert "\n" not in str(caught.value) and "robot.yaml" in str(caught.value)


@pytest.mark.parametrize("robot,path,value", VALUES, ids=name_of)
def test_a_value_of_a_wrong_kind_is_refused_at_its_place(write, robot, path, value):
    for wrong in ("text", 3, True, None, [], {}, [None], {"a": 1}):
        if type(wrong) is type(value) or (type(wrong), type(value)) == (int, float):
            continue
        data = copy.deepcopy(DATA[robot])
        holder(data, path)[path[-1]] = wrong
        with pytest.raises(ConfigError) as caught:
            load(write, data)
        assert str(path[0]) in str(caught.value) and "\n" not in str(caught.value), wrong


@pytest.mark.parametrize("robot,path,value", [v for v in VALUES if type(v[2]) in (int, float)], ids=name_of)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_no_number_may_be_infinite_or_not_a_number(write, robot, path, value, wrong):
    data = copy.deepcopy(DATA[robot])
    holder(data, path)[path[-1]] = wrong
    with pytest.raises(ConfigError):
        load(write, data)


@pytest.mark.parametrize("robot,change", [
    ("panda", {"control_rate": 20.0}), ("panda", {"control_rate": 55.0}), ("panda", {"kind": "legged"}),
    ("panda", {"command.interface": "twist"}), ("husky", {"command.interface": "position"}),
    ("panda", {"velocity_scale": 1.5}), ("panda", {"velocity_scale": 0.0}), ("panda", {"home": [0.0]}),
    ("panda", {"workspace.min": [1.0, 0.0, 0.0]}), ("panda", {"workspace.max": [1.0, 1.0]}),
    ("panda", {"gripper.open": 0.0}), ("panda", {"cameras.front.width": 0}),
    ("panda", {"cameras.front.max_age": 0.0}), ("panda", {"cameras.front.max_age": "old"}),
    ("panda", {"cameras.front.fov_deg": 180.0}),
    ("panda", {"cameras.front.look_at": [0.0, 0.0]}), ("panda", {"max_observation_age": -1.0}),
    ("panda", {"chunk_timeout": -0.1}), ("panda", {"max_skew": -0.1}), ("panda", {"joints": []}),
    ("husky", {"wheels.radius": 0.0}), ("husky", {"wheels.separation": -0.5}), ("husky", {"limits.v": 0.0}),
    ("husky", {"limits.w_acceleration": -4.0}), ("husky", {"cameras": {}}), ("panda", {"action.mode": "velocity"}),
    ("husky", {"wheels.left": ["no_such_wheel"]})], ids=str)
def test_numbers_that_make_no_sense_are_refused(write, robot, change):
    data = copy.deepcopy(DATA[robot])
    for dotted, value in change.items():
        path = dotted.split(".")
        holder(data, path)[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        load(write, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("robot,key", [("panda", "ee_frame"), ("panda", "home"), ("panda", "workspace"),
                                       ("husky", "wheels"), ("husky", "limits"), ("husky", "control_rate")])
def test_a_missing_key_is_named(write, robot, key):
    with pytest.raises(ConfigError, match=key):
        load(write, {k: v for k, v in DATA[robot].items() if k != key})


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"name: [", b"\xff\xfe\x00", b"a: b: c", b"words"], ids=str)
def test_a_file_that_is_no_robot(write, content):
    with pytest.raises(ConfigError, match="robot.yaml") as caught:
        load(write, content)
    assert "\n" not in str(caught.value)


def test_unknown_robots_list_the_shipped_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'panda'.*available: .*husky, .*panda"):
        load_profile("pandda")
    with pytest.raises(ConfigError, match="no robot file"):
        load_profile("/nowhere/robot.yaml")


@pytest.mark.parametrize("uri", ["package://no_such_package/a.urdf", "package://pybullet_data/no.urdf", "/no/a.urdf"])
def test_a_description_that_does_not_exist(uri):
    with pytest.raises(ConfigError) as caught:
        resolve_uri(uri)
    assert "no_such_package" in str(caught.value) or "no such file" in str(caught.value)


def test_every_error_of_reading_is_one_of_ours():
    with pytest.raises(VlaError):
        build(RobotProfile, {"name": "x"}, "robot")
