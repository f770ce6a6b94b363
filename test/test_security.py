"""The SROS2 policy: who may command, and what the file says. test/ros/test_access.py holds it to the real nodes."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import pytest
from core_samples import ROBOTS

from vla_ros import cli
from vla_ros.profile import LASTING
from vla_ros.security import INSIDE, access, policy_xml


def publishers(nodes, topic):
    return {name for name, may in nodes.items() if topic in may.publish}


@pytest.mark.parametrize("profile", ROBOTS.values(), ids=ROBOTS)
def test_the_path_of_a_command_has_one_author_at_each_step(profile):
    nodes = access(profile)
    assert publishers(nodes, "vla/action_chunk") == publishers(nodes, "vla/policy_status") == {"policy_node"}
    watched = {"watchdog_node"} if profile.command.interface in LASTING else set()
    assert publishers(nodes, profile.command.topic) == {"control_node"} | watched
    assert publishers(nodes, "vla/instruction") == {"task_node", "vla_send"}
    assert publishers(nodes, "vla/stop") == publishers(nodes, "vla/reset_stop") == {"vla_send"}
    assert publishers(nodes, "joint_states") == {"sim_node"}, "on a robot: its driver's enclave"


@pytest.mark.parametrize("profile", ROBOTS.values(), ids=ROBOTS)
@pytest.mark.parametrize("namespace", ["", "/left", "left/"])
def test_the_file_says_what_the_table_says(profile, namespace):
    nodes = access(profile, compressed=True)
    root = ElementTree.fromstring(policy_xml(nodes, namespace))
    assert root.tag == "policy" and root.get("version") == "0.2.0"
    processes = {enclave.get("path"): enclave.findall("profiles/profile") for enclave in root.find("enclaves")}
    assert [node.get("node") for node in processes["/vla_ros/policy_node"]] == ["policy_node", "policy_node_ask"]
    found = {node.get("node"): node for inside in processes.values() for node in inside}
    assert found.keys() == nodes.keys() and len(processes) == len(nodes) - 1
    for name, may in nodes.items():
        node = found[name]
        assert (node.get("ns"), node.get("node")) == ("/left" if namespace else "/", name)
        said = {attribute: {each.text for each in group} for group in node for attribute in group.keys()}
        assert said == {attribute: set(names) for attribute, names in vars(may).items() if names}
        assert not any("*" in each or each == "/" for names in said.values() for each in names), "no wildcards"


def test_the_command(capsys):
    assert cli.main(["security", "--robot", "husky"]) == 0
    assert "<topic>cmd_vel</topic>" in capsys.readouterr().out


def test_a_keystore_wants_sros2_and_says_where_it_comes_from(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "sros2", None)
    assert cli.main(["security", "--keystore", str(tmp_path / "keys")]) == 2
    assert "it comes with a distribution of ROS 2" in capsys.readouterr().err and not (tmp_path / "keys").exists()


def test_a_keystore_has_keys_and_signed_permissions_of_every_process(tmp_path, capsys):
    pytest.importorskip("sros2", reason="sros2 comes with a distribution of ROS 2, not from PyPI", exc_type=Exception)
    folder, names = tmp_path / "keys", {INSIDE.get(name, name) for name in access(ROBOTS["husky"])}
    assert cli.main(["security", "--robot", "husky", "--keystore", str(folder)]) == 0
    made = folder / "enclaves" / "vla_ros"
    assert {enclave.name for enclave in made.iterdir()} == names
    keys = {name: (made / name / "key.pem").read_bytes() for name in names}
    assert len(set(keys.values())) == len(names)
    for name in names:
        signed = ["openssl", "smime", "-verify", "-in", made / name / "permissions.p7s", "-CAfile",
                  folder / "public" / "permissions_ca.cert.pem", "-out", tmp_path / "permissions.xml"]
        subprocess.run(signed, check=True, capture_output=True)
        said = (tmp_path / "permissions.xml").read_text()
        publishes = said.partition("<publish>")[2].partition("</publish>")[0]
        assert ("rt/vla/action_chunk" in publishes) == (name == "policy_node"), name
    assert cli.main(["security", "--robot", "husky", "--keystore", str(folder)]) == 0
    assert keys == {name: (made / name / "key.pem").read_bytes() for name in names}, "keys that are there stay"
    assert f"ROS_SECURITY_KEYSTORE={folder}" in capsys.readouterr().out
