"""Which processes make up a system, and with which parameters: read by the launch files and `vla up`. No ROS here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.paths import data_folder
from vla_ros.profile import LASTING, RobotProfile, load_profile
from vla_ros.security import ENCLAVES
from vla_ros.splicing import DEFAULT, SPLICES

PARENT = "VLA_ROS_PARENT"  # environment: process id without which a node does not go on
TRANSPORTS = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
DATAGRAM = 60_000  # [bytes] of an image: UDP carries 65,507, its headers included
OLD_FAST_DDS = ("humble", "iron", "jazzy")  # distributions that know the second name only


def transports(user: Mapping[str, str], image: int | None = None) -> dict[str, str]:
    """The environment in which images arrive; nothing where the user has chosen how messages are carried.

    image: [bytes] of the largest; None where that is not known. What fits into a datagram does not go through shared
    memory, where one who reads and dies keeps those who write waiting (config/fastdds_udp.xml).
    """
    if any(name in user for name in TRANSPORTS):
        return {}
    name = TRANSPORTS[1 if user.get("ROS_DISTRO") in OLD_FAST_DDS else 0]
    small = image is not None and image <= DATAGRAM
    return {name: str(data_folder("config") / ("fastdds_udp.xml" if small else "fastdds.xml"))}


def largest_image(profile: RobotProfile) -> int:
    """[bytes] of its cameras' images."""
    return max((3 * camera.width * camera.height for camera in profile.cameras.values()), default=0)


THREADS = {"OMP_NUM_THREADS": "1"}  # a second thread makes a small model wait for it: slower wherever cores are busy
# [bytes] glibc gives the memory of each image back to the system and asks for it anew, page by page: 2 ms of the 3.4
# that 640 x 480 takes from node to node (bench/overhead.py). Read when a process starts; other C libraries ignore it.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 27),
          "MALLOC_TOP_PAD_": str(1 << 22)}
ENVIRONMENT = transports(os.environ) | THREADS | MEMORY


@dataclass(frozen=True)
class Process:
    """One node in a process of its own.

    name:       of the node and of its executable; module: what `python -m` runs.
    parameters, remappings: as ROS 2 understands them.
    ready:      (kind, name): 'topic' that it publishes on, or 'action' that it serves, once it is ready; 'publisher'
                that it has then, where nothing is published yet. A lifecycle node is ready when it is active.
    restart:    `vla up` and the launch files start it again when it crashes, instead of ending the system.
    """

    name: str
    parameters: Mapping[str, bool | int | float | str]
    ready: tuple[str, str]
    remappings: tuple[tuple[str, str], ...] = ()
    namespace: str = ""
    restart: bool = False

    @property
    def module(self) -> str:
        return f"vla_ros.nodes.{self.name}"

    @property
    def enclave(self) -> str:
        """Where SROS2 finds the keys and permissions of this process, when ROS_SECURITY_ENABLE is true."""
        return f"{ENCLAVES}/{self.name}"

    def ros_arguments(self) -> list[str]:
        """What follows the executable."""
        pairs = [("-p", f"{name}:={literal(value)}") for name, value in self.parameters.items()]
        pairs += [("-r", f"{old}:={new}") for old, new in self.remappings]
        if self.namespace:
            pairs.append(("-r", f"__ns:=/{self.namespace.strip('/')}"))
        return ["--ros-args", "--enclave", self.enclave, *(word for pair in pairs for word in pair)]


@dataclass(frozen=True)
class SystemDescription:
    """Processes that run together; environment: for all of them, where the user has not set it."""

    name: str
    processes: tuple[Process, ...]
    namespace: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))


@dataclass(frozen=True)
class Argument:
    """An argument of a launch file, and an option of `vla up`."""

    name: str
    default: bool | int | float | str
    description: str
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    def parse(self, value):
        """`value`, which may be text, in the type of the default. Raises ConfigError or UnknownNameError."""
        if isinstance(value, str) and not isinstance(self.default, str):
            value = self._parse_text(value)
        if self.choices and value not in self.choices:
            raise UnknownNameError(self.name, value, self.choices)
        return type(self.default)(value)

    def _parse_text(self, text: str):
        kind = type(self.default)
        try:
            return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{self.name} must be {'true or false' if kind is bool else kind.__name__}, "
                              f"is '{text}': {self.description}") from error


ROBOT = Argument("robot", "panda", "robot profile: a shipped name (panda, husky) or a YAML file")
POLICY = Argument("policy", "native",
                  "policy: native, oracle (in simulation), hold, replay:FILE.npz, a checkpoint's folder, its name on a "
                  "hub (docs/checkpoints.md), or an address (docs/remote.md)")
FILTER = Argument("instruction_filter", "",
                  "YAML file of the instructions that are refused before the policy is asked; empty: the shipped one")
NAMESPACE = Argument("namespace", "", "namespace of the nodes and their topics")
REMAP = Argument("remap", "", "topics under other names: FROM:=TO, several separated by blanks")
TIME_LIMIT = Argument("time_limit", 30.0, "[s] ROS time, of an instruction that is given without a limit")
STOP_WORDS = Argument("stop_words", "", "YAML file of the words that stop the robot without the policy; empty: the "
                      "shipped one; none: none")
STALL_TIME = Argument("stall_time", 3.0, "[s] ROS time that the joints may rest while they are told to move, before an "
                      "instruction ends as stalled; 0: for ever")
NO_PROGRESS_TIME = Argument("no_progress_time", 20.0, "[s] ROS time, after which an instruction ends when the distance "
                            "left has not become less, or, where nobody knows it, an arm stayed in one place; 0: never")
AUTOSTART = Argument("autostart", True, "policy and control node configure and activate themselves; false: a manager "
                     "does, or `ros2 lifecycle set`")
OUTCOMES = (STOP_WORDS, STALL_TIME, NO_PROGRESS_TIME)
EXECUTE_STEPS = Argument("execute_steps", 4, "action steps of a chunk that are executed before a newer one takes over")
SPLICE = Argument("splice", DEFAULT, "how a newer chunk takes over from the one that runs: the newest alone, a mean of "
                  "all, or a crossfade", tuple(SPLICES))
CHUNK_TIMEOUT = Argument("chunk_timeout", 0.0, "[s] ROS time without a newer chunk, after the end of one, that end an "
                         "instruction as halted; 0: the robot profile's; more where a policy is slow")
SIM_ARGUMENTS = (
    ROBOT, POLICY,
    Argument("task", "", "task family to begin with; empty: the robot's first"),
    Argument("seed", 0, "seed of the first layout"),
    Argument("mode", "realtime", "simulated time follows wall time, or waits for each command",
             ("realtime", "lockstep")),
    Argument("factor", 1.0, "simulated seconds a second, in real time"),
    Argument("world", "bullet", "physics and cameras, or a mock that tracks perfectly", ("bullet", "mock")),
    EXECUTE_STEPS, SPLICE, CHUNK_TIMEOUT,
    Argument("camera_rate", 0.0, "[Hz] simulated, of camera images in real time; 0: the policy's rate"),
    Argument("overview", False, "also publish camera/overview/image_raw, a view for people"),
    FILTER, TIME_LIMIT, *OUTCOMES, AUTOSTART, NAMESPACE, REMAP,
)
ROBOT_ARGUMENTS = (
    ROBOT, POLICY,
    EXECUTE_STEPS, SPLICE, CHUNK_TIMEOUT,
    Argument("compressed", False, "camera images come on image_raw/compressed (jpeg or png)"),
    Argument("use_sim_time", False, "time comes from /clock: for a robot in another simulator, or from a bag"),
    FILTER, TIME_LIMIT, *OUTCOMES, AUTOSTART, NAMESPACE, REMAP,
)


def sim_system(**values) -> SystemDescription:
    """A simulated robot and all nodes. Arguments: SIM_ARGUMENTS."""
    a = parsed(SIM_ARGUMENTS, values)
    lockstep = a["mode"] == "lockstep"
    sim = Process("sim_node", {"robot": a["robot"], "task": a["task"], "seed": a["seed"], "world": a["world"],
                               "mode": a["mode"], "factor": a["factor"], "execute_steps": a["execute_steps"],
                               "camera_rate": a["camera_rate"], "overview": a["overview"]}, ("topic", "sim/task_state"))
    factor = 1.0 if lockstep else a["factor"]
    nodes = command_path(a, {"use_sim_time": True, "lockstep": lockstep},
                         {"factor": factor, "execute_steps": a["execute_steps"]})
    return system("sim", (sim, *nodes), a)


def robot_system(**values) -> SystemDescription:
    """The nodes alone, for a robot whose drivers run elsewhere. Arguments: ROBOT_ARGUMENTS."""
    a = parsed(ROBOT_ARGUMENTS, values)
    nodes = command_path(a, {"use_sim_time": a["use_sim_time"]}, {"execute_steps": a["execute_steps"]})
    policy = replace(nodes[0], parameters=nodes[0].parameters | {"compressed": a["compressed"]})
    return system("robot", (policy, *nodes[1:]), a)


SYSTEMS: dict[str, tuple[Callable[..., SystemDescription], tuple[Argument, ...]]] = {
    "sim": (sim_system, SIM_ARGUMENTS), "robot": (robot_system, ROBOT_ARGUMENTS)}


def command_path(a: dict, shared: dict, control: dict) -> tuple[Process, ...]:
    """The nodes from observation to command: policy, control, task; and a watchdog where a velocity would stay in
    force. In lockstep none does: the world waits."""
    robot, managed = {"robot": a["robot"]}, {"policy": a["policy"], "autostart": a["autostart"]}
    policy = robot | managed | {"instruction_filter": a["instruction_filter"], "execute_steps": a["execute_steps"]}
    stops = {"stop_words": a["stop_words"]}
    patience = {"no_progress_time": a["no_progress_time"]}
    control = robot | managed | stops | patience | {"stall_time": a["stall_time"], "splice": a["splice"],
                                                    "chunk_timeout": a["chunk_timeout"]} | control
    task = stops | patience | {"time_limit": a["time_limit"]}
    lasting = load_profile(a["robot"]).command.interface in LASTING and not shared.get("lockstep")
    watchdog = Process("watchdog_node", robot | {"use_sim_time": shared["use_sim_time"]}, ("publisher", "/diagnostics"))
    return (Process("policy_node", policy | shared, ("topic", "vla/policy_status"), restart=True),
            Process("control_node", control | shared, ("topic", "vla/control_status"), restart=True),
            Process("task_node", task | shared, ("action", "vla/execute")),
            *((watchdog,) if lasting else ()))


def system(name: str, processes: tuple[Process, ...], a: dict) -> SystemDescription:
    remappings = tuple(remapping(word) for word in a["remap"].split())
    named = tuple(replace(p, remappings=remappings, namespace=a["namespace"]) for p in processes)
    image = None if a.get("overview") else largest_image(load_profile(a["robot"]))
    return SystemDescription(name, named, a["namespace"], transports(os.environ, image) | THREADS | MEMORY)


def remapping(text: str) -> tuple[str, str]:
    old, separator, new = text.partition(":=")
    if not (separator and old and new):
        raise ConfigError(f"remap '{text}' is not of the form FROM:=TO")
    return old, new


def parsed(arguments: tuple[Argument, ...], values: Mapping) -> dict:
    """All arguments by name: given or default, each in its type."""
    known = {argument.name: argument for argument in arguments}
    for name in values:
        if name not in known:
            raise UnknownNameError("argument", name, known)
    return {name: argument.parse(values.get(name, argument.default)) for name, argument in known.items()}


def literal(value: bool | int | float | str) -> str:
    """A parameter's value as YAML; text is quoted, so that it stays text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    mantissa, e, exponent = repr(value).partition("e")
    return mantissa if not e else f"{float(mantissa)}e{exponent}"  # YAML takes 1e-09 for text
