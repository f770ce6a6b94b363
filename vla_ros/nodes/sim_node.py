"""sim_node: a simulated robot on the topics of a real one, with a task to do.

realtime: simulated time follows wall time times `factor`; where it cannot, the clock slows down, and says so.
lockstep: simulated time waits for the command that answers each joint state by its stamp; the same seed and the same
commands give the same episode, bit for bit. One thread steps, renders and handles every message.
"""

from __future__ import annotations

import sys
import time

from rclpy.executors import Executor
from rclpy.node import Node
from std_msgs.msg import String

from vla_ros.errors import ActionError, ObservationError, UnknownNameError, VlaError
from vla_ros.evaluation.wanted import goal_in
from vla_ros.nodes import convert, params, qos
from vla_ros.nodes.diagnostics import OK, STEADY, WARN, Diagnostics
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.running import POLL, Ending, run
from vla_ros.nodes.sim_topics import SimTopics
from vla_ros.profile import RobotProfile, load_profile
from vla_ros.sim.tasks import TASKS
from vla_ros.srv import ResetTask
from vla_ros.types import JointCommand

SECOND = convert.SECOND
MODES, WORLDS = ("realtime", "lockstep"), ("bullet", "mock")
PARAMETERS = (
    params.ROBOT,
    Parameter("task", "", "task family to begin with; empty: the robot's first"),
    Parameter("seed", 0, "seed of the first layout", 0, 2**62),
    Parameter("world", "bullet", "physics and cameras, or a mock that tracks perfectly", choices=WORLDS),
    Parameter("mode", "realtime", "what simulated time follows: wall time, or the commands", choices=MODES),
    Parameter("factor", 1.0, "simulated seconds a second, in real time", 0.01, 100.0),
    Parameter("camera_rate", 0.0, "[Hz] simulated, of camera images in real time; 0: the policy's rate", 0.0, 60.0),
    params.EXECUTE_STEPS,
    Parameter("overview", False, "also publish camera/overview/image_raw, a view for people"),
    Parameter("overview_width", 480, "[px]", 16, 4096),
    Parameter("overview_height", 360, "[px]", 16, 4096),
    Parameter("command_timeout", 0.5, "[s] simulated, after which a velocity command is not held on, in real time",
              0.0, 60.0),
)
MAX_LAG = 0.25  # [s] of wall time that the simulation may be behind and still catch up
FRAMES_RATE = 20.0  # [Hz] simulated, of /tf in real time


def tasks_of(robot: str) -> list[str]:
    return [name for name, task in TASKS.items() if task.robot == robot]


def find_task(name: str, robot: str):
    """A task of a robot; empty: its first. UnknownNameError lists the valid ones."""
    valid = tasks_of(robot)
    if name and name not in valid:
        raise UnknownNameError(f"task for {robot}", name, valid)
    return TASKS[name or valid[0]]


def open_world(kind: str, profile: RobotProfile, task):
    if kind == "mock":
        from vla_ros.sim.mock import MockWorld
        return MockWorld(profile, task)
    from vla_ros.sim.bullet import BulletWorld
    return BulletWorld(profile, task)


class SimNode(Node):
    def __init__(self):
        super().__init__("sim_node")
        p = self.params = params.declare(self, PARAMETERS)
        self.profile = load_profile(p.robot)
        self.lockstep = p.mode == "lockstep"
        self.world = open_world(p.world, self.profile, find_task(p.task, self.profile.name))
        self.topics = SimTopics(self, self.profile, self.lockstep, p.overview)
        rate = p.camera_rate or 1 / self.profile.action.period
        self.camera_ticks = max(1, round(self.profile.control_rate / rate))
        if self.lockstep:
            self.camera_ticks = p.execute_steps * self.profile.ticks_per_step
        self.laid_out = self.world.task  # other words may set another task in the same layout
        self.offset = 0  # [ns] ROS time of the world's reset: it only grows
        self.episode = self.tick = self.ignored = 0
        kind = convert.COMMAND_TYPES[self.profile.command.interface]
        self.create_subscription(kind, self.profile.command.topic, self._on_command, qos.stream(self.lockstep))
        self.create_subscription(String, "vla/instruction", self._on_instruction, qos.REQUEST)
        self.create_service(ResetTask, "sim/reset", self._on_reset)
        self.create_timer(1.0, self._heartbeat, clock=STEADY)
        Diagnostics(self, self.profile.name, self._report)
        self.reset(p.seed, None)
        self.topics.fixed_frames(self.now)
        self.get_logger().info(f"{self.profile.name}, {p.world}, {p.mode}: '{self.world.scene.instruction}'")

    @property
    def now(self) -> int:
        """[ns] ROS time"""
        return self.offset + self.world.stamp

    def reset(self, seed: int, task) -> None:
        """A new episode, stamped later than all that was: the clock never runs backwards."""
        last = self.now if self.episode else 0
        self.laid_out = task or self.laid_out
        self.world.reset(seed, self.laid_out)
        self.offset = (last // SECOND + 2) * SECOND
        self.episode, self.tick, self.command, self.command_stamp = self.episode + 1, 0, None, None
        self._begin, self._ticks, self._success = time.monotonic(), 0, False
        self.lost = 0.0  # [s] of wall time that the clock gave up in this episode
        self.publish()

    def publish(self) -> None:
        """The state after a tick. Joint states come before the images that they are to be paired with."""
        now = self.now
        self.topics.clock(now)
        self.topics.truth(self.world, now)
        self.topics.joints(self.world, now)
        if self.lockstep or self.tick % 6 == 0 or self.world.progress.success != self._success:
            self.topics.task_state(self.world, now, self.episode)
            self._success = self.world.progress.success
        if self.tick % self.camera_ticks == 0:
            self.topics.images(self.world, now)
            if self.params.overview:
                self.topics.overview(self.world, now, self.params.overview_width, self.params.overview_height)
        if self.tick % (self.camera_ticks if self.lockstep else round(self.profile.control_rate / FRAMES_RATE)) == 0:
            self.topics.frames(self.world, now)

    def step(self, command) -> None:
        self.world.step(command)
        self.tick += 1
        self.publish()

    def _on_command(self, message) -> None:
        """In lockstep only the command that answers the last joint state counts: each step is taken exactly once."""
        stamp = convert.command_stamp(message)
        if self.lockstep and stamp != self.now:
            self.ignored += 1
            return
        try:
            self.command, self.command_stamp = convert.command_from(message, self.profile), self.now
        except ActionError as error:
            self.ignored += 1
            self.get_logger().warning(f"command ignored: {error}", throttle_duration_sec=1.0)

    def _on_instruction(self, message: String) -> None:
        """Whoever tells the robot something else is to be told how that goes: words that can be understood without a
        model, by the shipped wordings, set the task that is judged. Others leave it as it is."""
        try:
            words = convert.words(message.data)
        except ObservationError:
            return  # the policy node says what is wrong with them
        scene, arm = self.world.scene, self.profile.kind == "arm"
        if not words or words == scene.instruction:
            return
        positions = self.world.state.objects[:, :2] if arm else self.world.state.objects[:0, :2]
        goal = goal_in(words, scene, positions, tasks_of(self.profile.name))
        if goal is not None:
            self.world.instruct(goal[1], TASKS[goal[0]])
            self._success = False
            self.get_logger().info(f"the task is now {goal[0]}: '{words}'")

    def _on_reset(self, request: ResetTask.Request, response: ResetTask.Response) -> ResetTask.Response:
        try:
            self.reset(request.seed, find_task(request.task or self.laid_out.name, self.profile.name))
        except VlaError as error:
            response.success, response.message = False, str(error)
        else:
            response.success = True
        response.task, response.instruction = self.world.task.name, self.world.scene.instruction
        response.time_limit, response.stamp = float(self.world.task.time_limit), convert.time_message(self.offset)
        return response

    def _heartbeat(self) -> None:
        """While the world waits, others still learn the time and that this node lives."""
        self.topics.clock(self.now)
        self.topics.task_state(self.world, self.now, self.episode)

    # The two clocks

    def run(self, executor: Executor, ending: Ending) -> None:
        turn = self._lockstep_turn if self.lockstep else self._realtime_turn
        while not ending:
            turn(executor)

    def _lockstep_turn(self, executor: Executor) -> None:
        executor.spin_once(timeout_sec=POLL)
        if self.command is not None:
            command, self.command = self.command, None
            self.step(command)

    def _realtime_turn(self, executor: Executor) -> None:
        """Handles messages until the next tick is due, then takes it."""
        begun = self._begin
        due = begun + (self._ticks + 1) / (self.profile.control_rate * self.params.factor)
        for _ in range(100):
            executor.spin_once(timeout_sec=max(0.0, due - time.monotonic()))
            if time.monotonic() >= due or self._begin != begun:
                break
        if self._begin != begun:  # reset meanwhile
            return
        lag = time.monotonic() - due
        if lag > MAX_LAG:
            self.lost += lag
            self._begin += lag
        self._ticks += 1
        self.step(self._command_in_force())

    def _command_in_force(self):
        """As controllers do: position targets stay, velocities end when no more come."""
        held = isinstance(self.command, JointCommand) and self.command.positions
        if self.command is None or held:
            return self.command
        return self.command if self.now - self.command_stamp <= self.params.command_timeout * SECOND else None

    def _report(self):
        wall = max(time.monotonic() - self._begin + self.lost, 1e-9)
        slow = not self.lockstep and self.lost > 0
        message = f"behind wall time: the clock gave up {self.lost:.1f} s" if slow else self.params.mode
        return WARN if slow else OK, message, {
            "task": self.world.task.name, "episode": self.episode, "simulated [s]": self.world.stamp / 1e9,
            "speed": self.world.stamp / 1e9 / wall, "commands ignored": self.ignored, "clock given up [s]": self.lost}

    def close(self) -> None:
        self.world.close()


def sim_node() -> SimNode:
    return SimNode()


def main(args=None) -> int:
    return run(sim_node, args, lambda node, executor, ending: node.run(executor, ending))


if __name__ == "__main__":
    sys.exit(main())
