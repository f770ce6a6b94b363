"""control_node: action chunks and joint states in, the robot's commands out, at the control rate.

vla/stop (std_msgs/Bool): true latches and holds. vla/reset_stop (std_msgs/Empty) releases, and nothing else does: no
transition, and no start of this process. After a reset only a new instruction moves.

So it is after a halt: no newer chunk in time, old joint states, a clock that stands or jumps, a policy node that
answers nothing, a node or joint states that have fallen silent since the instruction was given, a command that the
guard refuses, this process when it stood still, another who commands the robot or nobody who reads it. What moved comes
to rest. Words that mean stop hold too, whatever the policy answers, until other words come (config/stop_words.yaml).

A lifecycle node: to configure reads the profile; to activate needs fresh joint states, and no error among what `vla
doctor` examines of checkpoint, robot and command topic. Inactive it commands nothing, and takes no instruction; nor
does it, but to stop, while it is not alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty, String

from vla_ros.action import ExecuteInstruction
from vla_ros.doctor.examine import objections
from vla_ros.errors import ActionError, ObservationError
from vla_ros.msg import ActionChunk, ControlStatus, PolicyStatus
from vla_ros.nodes import convert, params, qos, states
from vla_ros.nodes.alone import Alone
from vla_ros.nodes.commanding import Commanding, Offer
from vla_ros.nodes.control_loop import BRAKING, ControlLoop
from vla_ros.nodes.diagnostics import OK, STEADY, WARN, counts, milliseconds, spread
from vla_ros.nodes.latching import KEPT, RESET, STOP, Latch
from vla_ros.nodes.lockstep import Lockstep
from vla_ros.nodes.managed import Managed
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.running import hurry, run
from vla_ros.nodes.signs import PAUSE, POLICY, ROBOT, TASK, Signs, age_fault, silence_limit
from vla_ros.nodes.statistics import Window
from vla_ros.profile import load_profile
from vla_ros.stop_words import StopWords

PARAMETERS = (
    params.ROBOT,
    Parameter("factor", 1.0, "control periods per nominal period of wall time: the simulator's speed", 0.01, 100.0),
    Parameter("joint_state_gap", 0.5, "[s] without joint states, after which motion begins anew from the measured "
              "ones; a control loop that stood still for as long waits for a new instruction", 0.01, 60.0),
    Parameter("insist", 0.5, "[s] that commands of rest are sent before silence", 0.0, 60.0),
    Parameter("stall_time", 3.0, "[s] ROS time that the joints may rest while they are told to move, before the robot "
              "counts as stalled; 0: for ever", 0.0, 600.0),
    Parameter("no_progress_time", 20.0, "[s] ROS time that an arm may stay in one place while chunks are executed, "
              "however it moves there; 0: for ever", 0.0, 86400.0),
    params.STOP_WORDS,
    params.LOCKSTEP,
    params.EXECUTE_STEPS,
    params.SPLICE,
    Parameter("chunk_timeout", 0.0, "[s] ROS time without a newer chunk, after the last step of one, that halt: only "
              "another instruction moves then; 0: the robot profile's", 0.0, 600.0),
    Parameter("policy", "", "what the policy node opens, to be examined before anything moves; empty: nothing is"),
    params.AUTOSTART,
)
SEAM_UNITS = {"arm": "rad", "base": "m/s, rad/s"}


class ControlNode(Managed):
    """The callbacks file what arrives; the control loop commands. In lockstep, arrivals do."""

    def __init__(self):
        super().__init__("control_node", PARAMETERS)
        self._lock, self.latch = threading.Lock(), Latch()
        self.commanding: Commanding | None = None
        self.loop: ControlLoop | None = None
        self.create_subscription(Bool, STOP, self._on_stop, qos.REQUEST)
        self.create_subscription(Empty, RESET, lambda _: self._latch(self.latch.say, False), qos.REQUEST)
        self.create_subscription(Bool, KEPT, lambda kept: self._latch(self.latch.keep, kept.data), qos.STATUS)
        self.begin()

    def configure(self) -> None:
        self.profile = load_profile(self.params.robot)
        self.objections = objections(self.profile, self.params.policy, self.params.execute_steps)
        period = 1 / (self.profile.control_rate * self.params.factor)  # [s] of the steady clock
        gap = 1.5 / self.profile.control_rate if self.params.lockstep else self.params.joint_state_gap
        execute = self.params.execute_steps * self.profile.action.period_ns
        insist = None if self.params.lockstep else round(self.params.insist * self.profile.control_rate)
        timeout = self.params.chunk_timeout or self.profile.chunk_timeout
        self.commanding = Commanding(self.profile, round(gap * 1e9), execute, insist, self.params.stall_time,
                                     StopWords.load(self.params.stop_words).mean, self.params.splice,
                                     None if self.params.lockstep else round(timeout * 1e9),
                                     self.params.no_progress_time)
        self.commanding.stop(self.latch.latched)
        silence = silence_limit(self.commanding.controller.guard.braking)
        self.signs = Signs({POLICY: silence, TASK: silence, ROBOT: max(PAUSE, 3 * period)})
        self.lockstep = Lockstep(self.commanding, execute, self._publish) if self.params.lockstep else None
        self.loop = ControlLoop(self.commanding, self.signs, period, self.params.joint_state_gap, self._lock, self.now,
                                self._publish, self._status_if_changed, self.get_logger().warning)
        self.periods, self._last = Window(600), None
        self.ignored: Counter[str] = Counter()  # joint states that could not be used, by reason
        self._published: tuple | None = None
        self._policy_words: str | None = None  # the instruction that the policy node reported last
        self._open()
        self.diagnostics.hardware = self.profile.name
        clock = "in lockstep" if self.lockstep else f"{1 / period:g} Hz"
        command = self.profile.command
        self.get_logger().info(f"{self.profile.name}: {command.interface} on '{command.topic}', {clock}")
        gripper = self.profile.gripper
        opening = f"; gripper 0 is {gripper.closed:g} m, 1 {gripper.open:g} m between the fingers" if gripper else ""
        self.get_logger().info(f"actions: {self.profile.action.told()}{opening}; a policy whose actions mean anything "
                               "else does not move it")

    def _open(self) -> None:
        kind = convert.COMMAND_TYPES[self.profile.command.interface]
        stream, sensor = qos.stream(self.params.lockstep), qos.sensor(self.params.lockstep)
        self._commands = self.create_lifecycle_publisher(kind, self.profile.command.topic, stream)
        self.alone = Alone(self, self._commands.topic_name, kind, stream)
        self._statuses = self.create_publisher(ControlStatus, "vla/control_status", qos.STATUS)
        self.create_subscription(JointState, "joint_states", self._on_joints, sensor)
        self.create_subscription(ActionChunk, "vla/action_chunk", self._on_chunk, stream)
        self.create_subscription(String, "vla/instruction", self._on_instruction, qos.REQUEST)
        self.create_subscription(PolicyStatus, "vla/policy_status", self._on_policy, qos.REQUEST)
        self.create_subscription(ExecuteInstruction.Impl.FeedbackMessage, "vla/execute/_action/feedback",
                                 lambda _: self._heard(TASK), qos.REQUEST)
        self.create_timer(0.1, self._heartbeat, clock=STEADY)

    def lacking(self) -> str:
        """An error of the doctor, or old joint states. In lockstep time waits, so that none are."""
        objections = self.objections or self.alone.problems()
        if objections:
            return f"vla doctor finds an error: {objections}"
        current = self.commanding.controller.current
        now = current.stamp if self.lockstep and current else self.now()
        return age_fault(current, now, self.profile.max_observation_age)

    def activate(self) -> None:
        """Motion begins where the robot is measured, with the next instruction."""
        with self._lock:
            self.signs.forget()
            self.commanding.begin()
        if self.lockstep is None:
            self.loop.start()
        self.publish_status()

    def deactivate(self) -> None:
        """Comes to rest first, as for vla/stop; in lockstep the world waits."""
        if self.lockstep is None:
            if not self.loop.come_to_rest():
                self.get_logger().warning(f"not at rest within {BRAKING:g} s")
            self.loop.stop()
            self._say_rest()
        with self._lock:
            self.commanding.let_go()
        self.state = states.INACTIVE
        self.publish_status()

    def release(self) -> None:
        if self.loop is not None:
            self.loop.stop()
        self.commanding = self.loop = None

    def now(self) -> int:
        """[ns] ROS time"""
        return self.get_clock().now().nanoseconds

    def _on_joints(self, message: JointState) -> None:
        try:
            joints = convert.joint_state(message)
            self._check_names(joints)
        except ObservationError as error:
            self.ignored[error.reason] += 1
            self.get_logger().warning(f"joint states ignored: {error}", throttle_duration_sec=5.0)
            return
        self._heard(ROBOT)
        with self._lock:
            rest = self.commanding.rest
            (self.lockstep or self.commanding).joints(joints)
            if self.lockstep is None:
                self.loop.end(rest)
        self._status_if_changed()

    def _check_names(self, joints) -> None:
        missing = [n for n in self.profile.joints if n not in joints.positions]
        if missing:
            have = ", ".join(joints.positions)
            raise ObservationError("joints", f"joint states lack {', '.join(missing)}; have {have}")

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self.active:
            return
        with self._lock:
            try:
                offer = Offer(convert.chunk_from(message), message.instruction, message.sequence, time.monotonic())
            except ActionError as error:
                self.commanding.refuse(error)
                self.get_logger().warning(f"chunk {message.sequence} refused: {error}", throttle_duration_sec=1.0)
            else:
                self.commanding.offer = offer
            self._proceed()
        self._status_if_changed()

    def _on_instruction(self, message: String) -> None:
        try:
            self._instruct(convert.words(message.data))
        except ObservationError as error:
            self.get_logger().warning(str(error))
            self._instruct("")

    def _on_policy(self, message: PolicyStatus) -> None:
        """Words that reached the policy node alone count here too: `ros2 topic pub --once` waits for one reader only.

        Only a change does, so that a control node that was restarted does not go on with words from before. And after
        words that mean stop none does: a policy node that was busy reports late what it was told before them.
        """
        self._heard(POLICY)
        self._check_policy(message)
        before, self._policy_words = self._policy_words, message.instruction
        taken = self.active and before is not None and not self.commanding.held
        if taken and message.instruction not in ("", before):
            self._instruct(message.instruction)

    def _check_policy(self, message: PolicyStatus) -> None:
        """In lockstep time waits for its answer."""
        if self.active and self.lockstep is None:
            state = convert.state_name(convert.POLICY_STATES, message.state)
            with self._lock:
                if message.instruction == self.commanding.instruction:
                    trouble = "" if state in (states.RUNNING, states.REFUSED) else f"{state}: {message.detail}"
                    self.commanding.policy_says(trouble, time.monotonic())

    def _heard(self, name: str) -> None:
        with self._lock:
            self.signs.heard(name, time.monotonic())

    def _instruct(self, words: str) -> None:
        if not self.active:
            self.get_logger().warning(f"instruction not taken: {self.standing}", throttle_duration_sec=5.0)
            return
        objection = self.alone.problems() if words and not self.commanding.means_stop(words) else ""
        with self._lock:
            self.signs.forget()
            self.commanding.instruct("" if objection else words)
            if objection:
                self.commanding.fault = f"instruction not taken: {objection}"
                self.get_logger().warning(self.commanding.fault, throttle_duration_sec=5.0)
            self._proceed()
        self._status_if_changed()

    def _on_stop(self, message: Bool) -> None:
        """A button that is not pressed says false, again and again: no reset of what another one said."""
        if message.data:
            self._latch(self.latch.say, True)
        elif self.latch.latched:
            self.get_logger().warning(f"false on {STOP} does not reset the stop, {RESET} does",
                                      throttle_duration_sec=5.0)

    def _latch(self, note: Callable[[bool], None], latch: bool) -> None:
        note(latch)
        if self.commanding is None:
            return
        with self._lock:
            if self.commanding.stopped != self.latch.latched:
                self.commanding.stop(self.latch.latched)
            self._proceed()
        self._status_if_changed()

    def _proceed(self) -> None:
        if self.lockstep:
            self.lockstep.advance()
        else:
            self.commanding.take()

    def _publish(self, command, stamp: int) -> None:
        """A trajectory controller refuses what lies in its past: a streamed point begins at once, at stamp 0."""
        at_once = self.profile.command.interface == "joint_trajectory" and self.lockstep is None
        self._commands.publish(convert.command_message(command, self.profile, 0 if at_once else stamp))
        steady = time.monotonic()
        if self._last is not None:
            self.periods.add(steady - self._last)
        self._last = steady

    def _key(self) -> tuple:
        """What is published on change."""
        return self.state, self.commanding.state, self.commanding.instruction, self.commanding.fault

    def _status_if_changed(self) -> None:
        if self._key() != self._published:
            self.publish_status()

    def _heartbeat(self) -> None:
        """It says that commands are made: a node whose loop has ended must not claim so, and ends."""
        if self.loop.broken:
            raise RuntimeError("the control loop has ended")
        self._look_around()
        self.publish_status()

    def _look_around(self) -> None:
        """Somebody else who commands may come up in the middle of a motion, and who reads may go. Words that mean stop
        stay in force."""
        if self.active and self.lockstep is None and self.commanding.instruction and not self.commanding.held:
            trouble = self.alone.no_more()
            if trouble:
                with self._lock:
                    self.commanding.fail("topic", trouble)
                self.get_logger().warning(trouble, throttle_duration_sec=5.0)

    def publish_status(self) -> None:
        with self._lock:
            work, now = self.commanding, self.now()
            self._published = self._key()
            detail = work.detail if work.stopped else self.standing or work.detail
            step = work.moved.step
            accepted = work.accepted
            self._statuses.publish(ControlStatus(
                header=convert.header(now), state=convert.CONTROL_STATES[work.state], detail=detail,
                instruction=work.instruction, sequence=accepted.sequence if accepted else 0,
                step=step.index if step else 0, commands=work.commands, refused_chunks=work.refusals.total(),
                interventions=work.interventions.total(), halts=work.halts.total(),
                chunk_age=(now - accepted.chunk.stamp) / 1e9 if accepted else 0.0,
                period_p50=self.periods.p50, period_p95=self.periods.p95,
                latency_p50=work.latency.p50, latency_p95=work.latency.p95,
                seam_p50=work.gaps.p50, seam_p95=work.gaps.p95, seam_max=work.gaps.max))

    def report(self):
        with self._lock:
            work = self.commanding
            good = work.state not in (states.FAILED, states.STOPPED, states.HALTED)
            figures = {"commands": work.commands, "interventions": work.interventions.total(),
                       **counts("intervention", work.interventions), **counts("refused", work.refusals),
                       **counts("halt", work.halts),
                       **counts("joint states refused", self.ignored), "overruns": self.loop.overruns,
                       **spread("seam gap", unit := SEAM_UNITS[self.profile.kind], work.gaps),
                       **spread("seam jump", unit, work.jumps),
                       **milliseconds({"period": self.periods, "latency": work.latency, **self.loop.stages.windows})}
            return OK if good else WARN, f"{work.state}: {work.detail}".rstrip(": "), figures

    def close(self) -> None:
        """The last words on an interface where the last command stays in force are: stand still."""
        if self.active and self.lockstep is None:
            self.loop.stop()
            self._say_rest()

    def _say_rest(self) -> None:
        if self.commanding.rest is not None:
            self._publish(self.commanding.rest, self.now())


def control_node() -> ControlNode:
    return ControlNode()


def main(args=None) -> int:
    hurry()  # before the first thread is made
    return run(control_node, args)


if __name__ == "__main__":
    sys.exit(main())
