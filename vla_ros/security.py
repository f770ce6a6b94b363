"""Who may say and hear what: the policy file of SROS2 for our nodes and one robot. No ROS here.

Only the policy node may publish chunks, only the control node and its watchdog commands, only the task node and an
operator instructions, and only an operator may stop the robot or release it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from vla_ros.profile import LASTING, RobotProfile

ENCLAVES = "/vla_ros"  # one below it for each process
INSIDE = {"policy_node_ask": "policy_node"}  # nodes in the process of another
OPERATOR = "vla_send"  # and whatever else uses nodes/client.py
TYPES = "~/get_type_description"  # a service of every node
PARAMETERS = (TYPES, *(f"~/{name}" for name in (
    "describe_parameters", "get_parameter_types", "get_parameters", "list_parameters", "set_parameters",
    "set_parameters_atomically")))
LIFECYCLE = tuple(f"~/{name}" for name in (
    "change_state", "get_available_states", "get_available_transitions", "get_state", "get_transition_graph"))


@dataclass(frozen=True)
class Access:
    """What a node may do. Topics that it publishes and subscribes to; services that it serves (reply) and asks
    (request); actions that it serves (execute) and uses (call). Names: relative, from / on, or from ~ on: its own."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    reply: tuple[str, ...] = PARAMETERS
    request: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    call: tuple[str, ...] = ()


def access(profile: RobotProfile, compressed: bool = False) -> dict[str, Access]:
    """By node."""
    cameras = tuple(f"camera/{name}/image_raw" for name in profile.cameras)
    images = tuple(f"{topic}/compressed" for topic in cameras) if compressed else cameras
    infos = tuple(f"camera/{name}/camera_info" for name in profile.cameras)
    always, heard = ("/rosout", "/parameter_events"), ("/clock",)
    return {
        "policy_node": Access(
            (*always, "/diagnostics", "~/transition_event", "vla/action_chunk", "vla/policy_status", "vla/look_image"),
            (*heard, *images, "joint_states", "vla/instruction"), (*PARAMETERS, *LIFECYCLE)),
        "policy_node_ask": Access(("/parameter_events",), reply=(TYPES, "vla/ask")),
        "control_node": Access(
            (*always, "/diagnostics", "~/transition_event", "vla/control_status", profile.command.topic),
            (*heard, "joint_states", "vla/action_chunk", "vla/instruction", "vla/policy_status", "vla/stop",
             "vla/reset_stop", "vla/stop_kept", "vla/execute/_action/feedback"), (*PARAMETERS, *LIFECYCLE)),
        "task_node": Access(
            (*always, "/diagnostics", "vla/instruction", "vla/stop_kept"),
            (*heard, "vla/stop", "vla/reset_stop", "vla/action_chunk", "vla/instruction", "vla/policy_status",
             "vla/control_status", "sim/task_state"),
            execute=("vla/execute",)),
        "sim_node": Access(
            (*always, "/diagnostics", *cameras, *infos, "joint_states", "robot_description", "sim/task_state",
             "sim/truth", "/clock", "/tf", "/tf_static", *(["odom"] if profile.kind == "base" else [])),
            (profile.command.topic, "vla/instruction"), (*PARAMETERS, "sim/reset")),
        **({"watchdog_node": Access((*always, "/diagnostics", profile.command.topic),
                                    (*heard, "vla/control_status", profile.command.topic))}
           if profile.command.interface in LASTING else {}),
        OPERATOR: Access(
            ("/parameter_events", "vla/instruction", "vla/stop", "vla/reset_stop"),
            ("vla/policy_status", "vla/control_status", "sim/task_state"), (TYPES,),
            ("vla/ask", "sim/reset"), call=("vla/execute",))}


def enclaves_of(nodes: Mapping[str, Access]) -> list[str]:
    """One a process."""
    return sorted({f"{ENCLAVES}/{INSIDE.get(name, name)}" for name in nodes})


def policy_xml(nodes: Mapping[str, Access], namespace: str = "") -> str:
    """The file that `ros2 security create_permission` reads; one enclave a process."""
    root = ElementTree.Element("policy", version="0.2.0")
    enclaves = ElementTree.SubElement(root, "enclaves")
    processes: dict[str, ElementTree.Element] = {}
    for name, may in nodes.items():
        process = INSIDE.get(name, name)
        if process not in processes:
            enclave = ElementTree.SubElement(enclaves, "enclave", path=f"{ENCLAVES}/{process}")
            processes[process] = ElementTree.SubElement(enclave, "profiles")
        node = ElementTree.SubElement(processes[process], "profile", ns="/" + namespace.strip("/"), node=name)
        for kind, attribute in (("topic", "publish"), ("topic", "subscribe"), ("service", "reply"),
                                ("service", "request"), ("action", "execute"), ("action", "call")):
            if names := getattr(may, attribute):
                group = ElementTree.SubElement(node, kind + "s", {attribute: "ALLOW"})
                for each in sorted(names):
                    ElementTree.SubElement(group, kind).text = each
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode") + "\n"
