"""What makes up a system, and how its arguments are read."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from vla_ros.bringup import (
    ROBOT_ARGUMENTS,
    SIM_ARGUMENTS,
    SYSTEMS,
    TRANSPORTS,
    Argument,
    literal,
    parsed,
    robot_system,
    sim_system,
    transports,
)
from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.profile import config_folder, load_profile
from vla_ros.security import INSIDE, access


def by_name(system):
    return {process.name: process for process in system.processes}


def test_a_simulated_system_and_a_real_one():
    sim, robot = sim_system(), robot_system()
    assert list(by_name(sim)) == ["sim_node", "policy_node", "control_node", "task_node"]
    assert list(by_name(robot)) == ["policy_node", "control_node", "task_node"]
    for process in sim.processes[1:]:
        assert process.parameters["use_sim_time"] is True and process.parameters["lockstep"] is False
    assert by_name(robot)["policy_node"].parameters["use_sim_time"] is False


def test_a_robot_whose_velocity_would_stay_in_force_gets_a_watchdog(tmp_path):
    file = tmp_path / "panda.yaml"
    file.write_text((config_folder() / "robots" / "panda.yaml").read_text().replace(
        "interface: joint_trajectory", "interface: velocity"))
    for system in (sim_system(robot="husky"), robot_system(robot="husky"), robot_system(robot=str(file))):
        watchdog = system.processes[-1]
        assert watchdog.name == "watchdog_node" and not watchdog.restart
        assert watchdog.parameters["robot"] == by_name(system)["control_node"].parameters["robot"]
        assert watchdog.parameters["use_sim_time"] == (system.name == "sim")
    assert "watchdog_node" not in by_name(sim_system(robot="husky", mode="lockstep")), "the world waits"


def test_what_is_started_again_when_it_crashes():
    restarted = {process.name for process in sim_system(robot="husky").processes if process.restart}
    assert restarted == {"policy_node", "control_node"}


def test_how_messages_are_carried_is_the_users_choice_first():
    (name, file), = transports({}).items()
    assert name == "FASTDDS_DEFAULT_PROFILES_FILE" and Path(file).is_file()
    assert set(transports({"ROS_DISTRO": "jazzy"})) == {"FASTRTPS_DEFAULT_PROFILES_FILE"}
    for name in TRANSPORTS:
        assert transports({name: "mine"}) == {}


def test_only_images_larger_than_a_datagram_go_through_shared_memory(tmp_path, monkeypatch):
    for name in (*TRANSPORTS, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)

    def carried(**values):
        (file,) = (v for k, v in sim_system(**values).environment.items() if k == "FASTDDS_DEFAULT_PROFILES_FILE")
        return Path(file).name
    assert carried() == carried(robot="husky") == "fastdds_udp.xml"
    assert carried(overview="true") == "fastdds.xml"
    data = yaml.safe_load((config_folder() / "robots" / "panda.yaml").read_text())
    for camera in data["cameras"].values():
        camera |= {"width": 160, "height": 128}
    (tmp_path / "larger.yaml").write_text(yaml.safe_dump(data))
    assert carried(robot=str(tmp_path / "larger.yaml")) == "fastdds.xml"


def test_values_reach_the_nodes_that_need_them():
    nodes = by_name(sim_system(robot="husky", policy="hold", mode="lockstep", factor="2.0", seed="7", overview="true"))
    assert nodes["sim_node"].parameters["seed"] == 7 and nodes["sim_node"].parameters["overview"] is True
    assert nodes["policy_node"].parameters["policy"] == "hold" and nodes["policy_node"].parameters["lockstep"] is True
    assert nodes["control_node"].parameters["factor"] == 1.0, "lockstep has no speed"
    assert by_name(sim_system(factor=2.0))["control_node"].parameters["factor"] == 2.0
    nodes = by_name(robot_system(stop_words="mine.yaml", stall_time="0.5", no_progress_time="9"))
    assert nodes["control_node"].parameters["stop_words"] == nodes["task_node"].parameters["stop_words"] == "mine.yaml"
    assert nodes["control_node"].parameters["stall_time"] == 0.5
    assert nodes["task_node"].parameters["no_progress_time"] == 9.0
    assert nodes["control_node"].parameters["no_progress_time"] == 9.0


def test_each_process_has_the_enclave_that_the_policy_of_sros2_gives_it():
    paths = {f"/vla_ros/{name}" for name in access(load_profile("panda")) if name not in (*INSIDE, "vla_send")}
    processes = sim_system().processes
    assert {process.enclave for process in processes} == paths
    assert all(process.ros_arguments()[1:3] == ["--enclave", process.enclave] for process in processes)


def test_namespaces_and_remappings():
    process = robot_system(namespace="left", remap="joint_states:=/franka/joint_states a:=b").processes[0]
    words = process.ros_arguments()
    assert words[0] == "--ros-args" and "__ns:=/left" in words and "joint_states:=/franka/joint_states" in words
    with pytest.raises(ConfigError, match="FROM:=TO"):
        robot_system(remap="joint_states")


@pytest.mark.parametrize("values, error, text", [
    ({"robot": "pandas"}, UnknownNameError, "did you mean 'panda'"), ({"mode": "fast"}, UnknownNameError, "lockstep"),
    ({"seed": "one"}, ConfigError, "seed must be int"), ({"overview": "yes"}, ConfigError, "true or false"),
    ({"polcy": "hold"}, UnknownNameError, "did you mean 'policy'")])
def test_bad_arguments_name_the_valid_ones(values, error, text):
    with pytest.raises(error, match=text):
        sim_system(**values)


@pytest.mark.parametrize("arguments", [SIM_ARGUMENTS, ROBOT_ARGUMENTS])
def test_defaults_come_back_from_text(arguments):
    text = {a.name: a.default if isinstance(a.default, str) else literal(a.default) for a in arguments}
    assert parsed(arguments, text) == {a.name: a.default for a in arguments}
    assert all(a.description for a in arguments)


@pytest.mark.parametrize("value", [True, False, 3, -1, 0.5, 1e-9, 1.5e20, "hold", "", "it's", "12", "true", "/a/b.yaml",
                                   "replay:x.npz"])
def test_parameters_keep_their_type_as_yaml(value):
    back = yaml.safe_load(literal(value))
    assert back == value and type(back) is type(value)


def test_an_argument_in_the_wrong_type_is_an_error():
    with pytest.raises(ConfigError, match="factor must be float"):
        Argument("factor", 1.0, "speed").parse("fast")


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_parameter_is_declared_by_its_node(name):
    pytest.importorskip("vla_ros.msg", reason="interfaces are not built: run `make`", exc_type=ImportError)
    for process in SYSTEMS[name][0](robot="husky").processes:
        declared = {p.name: p for p in importlib.import_module(process.module).PARAMETERS} | {"use_sim_time": None}
        assert set(process.parameters) <= set(declared)
        for parameter in filter(None, declared.values()):
            assert parameter.description
            if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
                assert parameter.low <= parameter.default <= parameter.high, parameter.name
