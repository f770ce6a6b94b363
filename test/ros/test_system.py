"""A whole system in real time: its topics, the action's outcomes, and its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from vla_ros.msg import ControlStatus

from vla_ros import backoff
from vla_ros.bringup import robot_system, sim_system
from vla_ros.nodes import convert, qos
from vla_ros.nodes.client import Client, NoSystemError
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import ProcessError, System, last_words

READY = 90.0  # [s] on a busy machine
VLA = [sys.executable, "-m", "vla_ros.cli"]


def processes_of(domain: int) -> list[str]:
    """Command lines of what still runs in a domain."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"ROS_DOMAIN_ID={domain}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def start(domain: int, *words: str) -> subprocess.Popen:
    """A vla command in a domain."""
    return subprocess.Popen([*VLA, *words], env=os.environ | {"ROS_DOMAIN_ID": str(domain)}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended(process, seconds=20.0) -> str:
    """The rest of a process's output."""
    output, _ = process.communicate(timeout=seconds)
    return output


class Lines:
    """The output of a process, read by a thread."""

    def __init__(self, process):
        self.text = ""
        self._thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, stream):
        for line in stream:
            self.text += line

    def wait(self, pattern, seconds):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"no '{pattern}' in:\n{self.text}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def domain():
    return free_domain()


@pytest.fixture(scope="module")
def system(domain):
    """A simulated arm in real time, with a policy that holds still."""
    with System(sim_system(policy="hold", world="mock", overview=False), domain=domain) as running:
        running.wait_ready(READY)
        yield running


def test_topics_of_a_real_robot(system):
    with system.client() as client:
        images, infos, descriptions = [], [], []
        client.subscribe(Image, "camera/wrist/image_raw", images.append)
        client.subscribe(CameraInfo, "camera/wrist/camera_info", infos.append)
        client.subscribe(String, "robot_description", descriptions.append, qos.STATUS)
        assert client.spin_until(lambda: len(images) > 2 and infos and descriptions, 30.0)
        assert images[-1].header.frame_id == infos[-1].header.frame_id == "wrist_optical_frame"
        assert (infos[-1].width, infos[-1].height) == (images[-1].width, images[-1].height) == (128, 128)
        apart = convert.nanoseconds(images[-1].header.stamp) - convert.nanoseconds(images[-2].header.stamp)
        assert apart == 100_000_000, "at the policy's period"
        assert "package://" not in descriptions[0].data


def test_the_clock_never_runs_backwards(system):
    from rosgraph_msgs.msg import Clock
    with system.client() as client:
        stamps = []
        client.subscribe(Clock, "/clock", lambda m: stamps.append(convert.nanoseconds(m.clock)), qos.CLOCK)
        assert client.spin_until(lambda: len(stamps) > 5, 30.0)
        before = stamps[-1]
        layout = client.reset("push", 3)
        assert client.spin_until(lambda: stamps[-1] > layout.stamp, 10.0)
        assert layout.stamp > before and stamps == sorted(stamps) and layout.task == "push"


def test_time_runs_out(system):
    with system.client() as client:
        layout, feedback = client.reset("reach", 1), []
        result = client.execute(layout.instruction, 1.0, feedback.append, watch=system.check)
        assert result.outcome == "timed out" and result.chunks >= 3
        assert 1.0 <= result.duration < 3.0
        assert {f.phase for f in feedback} <= {"waiting", "running", "holding"} and len(feedback) > 2
        p50, p95 = result.stages["total"]
        assert 0 < p50 <= p95


def test_a_new_goal_preempts_the_one_before(system):
    with system.client("first") as first, system.client("second") as second:
        results, running = [], threading.Event()

        def run_first():
            results.append(first.execute("touch the red cube", 60.0, lambda f: running.set()))
        thread = threading.Thread(target=run_first)
        thread.start()
        assert running.wait(30.0)
        assert second.execute("touch the blue cube", 0.5).outcome == "timed out"
        thread.join(30.0)
        assert results[0].outcome == "canceled" and "preempted" in results[0].message, results[0].message


def test_a_stop_halts_until_it_is_reset(system):
    with system.client() as client:
        feedback = []
        client.reset("reach", 1)

        def stop(f):
            feedback.append(f)
            client.stop()
        result = client.execute("touch the red cube", 60.0, stop)
        assert result.outcome == "halted" and "vla/stop" in result.message
        assert client.execute("touch the red cube", 60.0).outcome == "halted"
        client.reset_stop()
        assert client.execute("touch the red cube", 0.5).outcome in ("timed out", "halted")
        assert client.execute("touch the red cube", 0.5).outcome == "timed out"


def test_an_instruction_to_harm_is_refused_and_the_next_one_is_not(system):
    with system.client() as client:
        result = client.execute("hit the person", 20.0, watch=system.check)
        assert result.outcome == "refused" and "person" in result.message and result.chunks == 0
        assert client.execute("touch the red cube", 0.5, watch=system.check).outcome == "timed out"


def test_goals_without_words_are_rejected(system):
    with system.client() as client:
        with pytest.raises(Exception, match="rejected"):
            client.execute("  ", 1.0)
        with pytest.raises(Exception, match="rejected"):
            client.execute("go", -1.0)


def test_send_follows_a_goal_and_is_canceled_by_ctrl_c(system, domain):
    send = start(domain, "send", "touch the red cube", "--time-limit", "1")
    output = ended(send, 60.0)
    assert send.returncode == 1 and "timed out: not done within 1 s" in output and "latency p50/p95" in output
    send = start(domain, "send", "touch the red cube", "--time-limit", "60")
    lines = Lines(send)
    lines.wait(r"running|holding", 60.0)
    send.send_signal(signal.SIGINT)
    assert send.wait(20.0) == 130
    lines.wait("canceled", 5.0)
    assert "Traceback" not in lines.text


def test_send_without_a_system_is_one_line():
    done = subprocess.run([*VLA, "send", "go", "--wait", "1"], env=os.environ | {"ROS_DOMAIN_ID": str(free_domain())},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "vla up sim" in done.stderr


def test_a_running_system_is_asked_and_says_why_it_cannot_answer(system, domain):
    asked = start(domain, "ask", "what is left of the red cube?")
    assert ended(asked, 60.0) == "vla: policy 'hold' answers no questions: open 'native', or a checkpoint's folder\n"
    assert asked.returncode == 2
    asked = start(free_domain(), "ask", "what is left of the red cube?", "--wait", "1")
    assert "no running system offers vla/ask" in ended(asked, 60.0) and asked.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_on_request_with_nothing_left(number):
    domain = free_domain()
    up = start(domain, "up", "sim", "--policy", "hold", "--world", "mock")
    lines = Lines(up)
    lines.wait("vla up: ready", READY)
    assert len(processes_of(domain)) >= 5
    up.send_signal(number)
    assert up.wait(15.0) == 0, lines.text
    assert processes_of(domain) == []
    assert "Traceback" not in lines.text and re.search(r"^\[task_node *\] ", lines.text, re.MULTILINE)


def test_nodes_do_not_outlive_a_killed_parent():
    domain = free_domain()
    up = start(domain, "up", "robot", "--policy", "hold")
    lines = Lines(up)
    for said in ("policy 'hold' for panda", "arm_controller/joint_trajectory', 60 Hz", "vla/execute is ready"):
        lines.wait(said, READY)
    assert "vla up: ready" not in lines.text, "without a robot's joint states and images nothing would move"
    up.kill()
    up.wait(10.0)
    end = time.monotonic() + 20.0
    while processes_of(domain):
        assert time.monotonic() < end, processes_of(domain)
        time.sleep(0.1)


def ready_task_node(system: System):
    """Its process, once it has said that it is ready."""
    task, end = system.processes[-1], time.monotonic() + READY
    while not any("vla/execute is ready" in line for line in task.tail):
        assert time.monotonic() < end, list(task.tail)
        time.sleep(0.05)
    return task


def test_a_request_to_end_that_is_lost_is_made_again(monkeypatch):
    lost: list[int] = []
    with System(robot_system(policy="hold"), domain=free_domain()) as running:
        task = ready_task_node(running)
        send = task.signal
        monkeypatch.setattr(task, "signal", lambda number: send(number) if lost else lost.append(number))
    assert lost == [signal.SIGTERM] and "task_node" not in running.ends


def test_what_does_not_end_is_killed_and_named():
    with System(robot_system(policy="hold"), domain=free_domain()) as running:
        ready_task_node(running).signal(signal.SIGSTOP)
    assert running.ends["task_node"].startswith("was ended by SIGKILL")


def test_a_node_that_dies_brings_the_system_down_by_name():
    with pytest.raises(ProcessError, match=r"policy_node ended with exit code 2: .*no recording missing\.npz") as wrong:
        with System(robot_system(policy="replay:missing.npz"), domain=free_domain()) as running:
            running.wait_ready(READY)
    assert running.processes == [] and wrong.value.exit_code == 2, "the user's mistake, as from every command"
    with pytest.raises(ProcessError, match="was ended by SIGKILL") as caught:
        with System(robot_system(policy="hold"), domain=free_domain()) as running:
            running.processes[0].signal(signal.SIGKILL)
            running.wait_ready(READY)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("victim", ["policy_node", "control_node"])
def test_a_node_that_crashes_is_started_again_and_nothing_moves_until_it_is_told(victim):
    said = []
    description = sim_system(policy="hold", world="mock")
    with System(description, lambda *line: said.append(line), free_domain(), restart=True) as running:
        running.wait_ready(READY)
        with running.client() as client:
            place = [process.name for process in description.processes].index(victim)
            hit = []

            def kill(feedback):
                if feedback.phase != "waiting" and not hit:
                    hit.append(running.processes[place])
                    hit[0].signal(signal.SIGKILL)
            result = client.execute("touch the red cube", 60.0, kill, watch=running.check)
            assert result.outcome == "halted" and victim.replace("_", " ") in result.message, result.message
            assert client.spin_until(lambda: running.restarts == 1, READY, running.check)
            again = running.processes[place]
            assert again is not hit[0] and any(name == victim and "SIGKILL" in line and "started again in 1 s" in line
                                               for name, line in said)
            statuses = []
            client.subscribe(ControlStatus, "vla/control_status", statuses.append)
            running.wait_ready(READY)
            assert client.spin_until(lambda: len(statuses) > 10, READY, running.check)
            assert statuses[-1].instruction == "" and statuses[-1].state != ControlStatus.EXECUTING
            assert client.execute("touch the red cube", 0.5, watch=running.check, timeout=READY).outcome == "timed out"
            assert running.restarts == 1


def test_what_refuses_its_input_or_ends_too_often_is_not_started_again(monkeypatch):
    with pytest.raises(ProcessError, match=r"policy_node ended with exit code 2: .*no recording missing\.npz"):
        with System(robot_system(policy="replay:missing.npz"), domain=free_domain(), restart=True) as running:
            running.wait_ready(READY)
    assert running.restarts == 0
    monkeypatch.setattr(backoff, "FIRST", 0.05)
    with pytest.raises(ProcessError, match="policy_node has ended 5 times within 60 s; the last time it was ended by"):
        with System(robot_system(policy="hold"), domain=free_domain(), restart=True) as running:
            def kill():
                running.processes[0].signal(signal.SIGKILL)
                running.check()
            running.wait_ready(READY, kill)
    assert running.restarts == 4


def test_a_client_says_who_is_not_ready():
    with Client("alone", domain=free_domain()) as client:
        with pytest.raises(NoSystemError, match="policy_node, control_node, task_node"):
            client.wait_ready(robot_system(), 0.5)
        with pytest.raises(NoSystemError, match="control_node, task_node, watchdog_node"):
            client.wait_ready(robot_system(robot="husky"), 0.5)


@pytest.mark.parametrize("node, parameter, text", [
    ("sim_node", "task:=juggle", "available: away, home, next_to, pick, place, push"),
    ("sim_node", "mode:=fast", "available: lockstep, realtime"),
    ("policy_node", "robot:=pandas", "did you mean 'panda'"),
    ("policy_node", "instruction_filter:=no/such.yaml", "no/such.yaml"),
    ("control_node", "factor:=0.0", "from 0.01 to 100"),
    ("task_node", "time_limit:=soon", "must be a float")])
def test_bad_parameters_are_one_line(node, parameter, text):
    done = subprocess.run([sys.executable, "-m", f"vla_ros.nodes.{node}", "--ros-args", "-p", parameter], text=True,
                          env=os.environ | {"ROS_DOMAIN_ID": str(free_domain())}, capture_output=True, timeout=60)
    assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_last_words_of_a_crash_say_where_it_was():
    """As Python itself says it."""
    code = "import threading, time, ctypes\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n" \
           "import numpy\nctypes.string_at(0)"
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV
    assert re.match(r"crashed in File .*ctypes/__init__.py\", line \d+ in string_at",
                    last_words(done.stderr.splitlines()))
    assert last_words(["one", "two", ""]) == "two" and last_words([""]) == "no output"
