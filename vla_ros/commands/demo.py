"""`vla demo`: a simulated robot is told something, and does it; a video of it, and the time that each stage took."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

from vla_ros.bringup import ENVIRONMENT
from vla_ros.cli import at_least
from vla_ros.commands.send import Line, progress_text
from vla_ros.errors import ConfigError, SimulationError

HELP = "start a simulated robot, tell it something, show what it did; needs no display"
TASK, SEED = "pick", 7  # where nothing is said
VIEW_HEIGHT, TILE_HEIGHT = 360, 240  # [px] of the video, of one picture of the contact sheet
READY = 120.0  # [s] that the nodes may take to start
AFTER = 0.7  # [s] filmed after the end


@dataclass(frozen=True)
class Plan:
    """said: the words to give, empty for those of the layout; judged: the task's predicate is about them."""

    task: str
    seed: int
    said: str
    judged: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--say", default="", help='what to do, for example "push the blue cube to the left"')
    add("--task", help="task family, for example push (default: the one that the words belong to)")
    add("--seed", type=at_least(0), default=SEED, help="of the layout; with --say, of the first that may do")
    add("--policy", default="native", help="native, hold, replay:FILE.npz or a checkpoint's folder")
    add("--out", type=Path, default=Path("out/demo"), help="folder of the video and the contact sheet")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 only when the robot did what it was told."""
    try:
        from vla_ros.nodes import client as _  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"ROS 2 or the interfaces of vla_ros are not to be found: {error}") from error
    for name, value in ENVIRONMENT.items():  # for what this process itself reads, as for its nodes
        os.environ.setdefault(name, value)
    plan = make_plan(args.say, args.task, args.seed)
    show = Show(plan, args.policy)
    show.play()
    show.save(args.out)
    print(show.summary())
    print(f"video          {args.out / 'episode.mp4'}\ncontact sheet  {args.out / 'contact_sheet.png'}")
    return 0 if show.success else 1


def make_plan(say: str, task: str | None, seed: int) -> Plan:
    """A layout in which the words make sense. Raises UnknownNameError for a task that is not there."""
    from vla_ros.evaluation.wanted import find_seed, understand
    from vla_ros.sim.tasks import get_task
    if task is not None:
        get_task(task)
    if not say:
        return Plan(task or TASK, seed, "", True)
    wanted = understand(say, [task]) if task else understand(say)
    found = find_seed(get_task(wanted.task), wanted, seed) if wanted else None
    if found is None:
        print(f"no task has the wording '{say}': the model is asked all the same, but nothing can judge what it does")
        return Plan(task or TASK, seed, say, False)
    return Plan(wanted.task, found, say, True)


class Show:
    """One episode of a system of its own, all nodes in processes, in real time."""

    def __init__(self, plan: Plan, policy: str):
        self.plan, self.policy = plan, policy

    def play(self) -> None:
        from vla_ros.bringup import sim_system
        from vla_ros.nodes.domains import own_domain
        from vla_ros.nodes.system import System
        from vla_ros.nodes.tracing import Tracer
        from vla_ros.profile import load_profile
        from vla_ros.sim.tasks import get_task
        plan, robot = self.plan, get_task(self.plan.task).robot
        system = sim_system(robot=robot, policy=self.policy, task=plan.task, seed=plan.seed, overview=True)
        domain, begin = own_domain(), time.monotonic()
        where = f" in ROS domain {domain}" if domain else ""
        print(f"starting {', '.join(process.name for process in system.processes)}{where}", flush=True)
        with (System(system, domain=domain) as processes, processes.client("vla_demo") as client,
              Tracer(load_profile(robot), domain) as tracer):
            client.wait_ready(system, READY, processes.check)
            print(f"ready after {time.monotonic() - begin:.1f} s", flush=True)
            self._follow(client, processes.check)
            self.traces = tracer.traces()

    def _follow(self, client, check) -> None:
        from vla_ros.nodes.watching import Film, TaskWatch
        from vla_ros.profile import load_profile
        from vla_ros.sim.tasks import get_task
        plan, front = self.plan, next(iter(load_profile(get_task(self.plan.task).robot).cameras))
        task, film, line = TaskWatch(client), Film(client, "overview", front), Line()
        layout = client.reset(plan.task, plan.seed)
        for watch in (task, film):
            watch.begin(layout)
        self.words = plan.said or layout.instruction
        print(f'{plan.task}, seed {plan.seed}: "{self.words}"', flush=True)
        self.result = client.execute(self.words, layout.time_limit, lambda f: line.show(progress_text(f)), None, check)
        client.spin_until(lambda: False, AFTER, check)
        line.end()
        won = task.success if plan.judged else None
        self.success = self.result.outcome == "succeeded"  # without a predicate: of words that mean stop
        self.seconds = won.elapsed if self.success and won else self.result.duration
        self.film = film

    @property
    def ending(self) -> str:
        if self.success:
            return f"success after {self.seconds:.2f} s: {self.result.message}"
        if not self.plan.judged and self.result.outcome in ("succeeded", "timed out"):
            return f"it moved for {self.seconds:.1f} s; nothing can judge whether it did '{self.words}'"
        return f"{self.result.outcome}: {self.result.message}"

    def save(self, folder: Path) -> None:
        from vla_ros.evaluation.video import captioned, contact_sheet, resized, side_by_side, write_mp4, write_png
        if not self.film.frames:
            raise SimulationError("no picture came from camera/overview")
        start, caption = self.film.frames[0][0], [f'"{self.words}"', self.ending]
        views = [side_by_side((overview, front), VIEW_HEIGHT) for _, overview, front in self.film.frames]
        stamps = [(stamp - start) / 1e9 for stamp, _, _ in self.film.frames]
        shown = [captioned(view, [caption[0], f"{stamp:.1f} s" if stamp < self.seconds else self.ending])
                 for view, stamp in zip(views, stamps, strict=True)]
        write_mp4(folder / "episode.mp4", shown, self.film.rate)
        small = [resized(view, TILE_HEIGHT) for view in views]
        write_png(folder / "contact_sheet.png", contact_sheet(small, caption, columns=3, rows=3))

    def summary(self) -> str:
        from vla_ros.evaluation.table import milliseconds, table
        from vla_ros.nodes.tracing import figures
        result = self.result
        lines = [f'"{self.words}"', self.ending, f"episode {self.seconds:.2f} s simulated, {result.chunks} chunks, "
                                                 f"the first after {result.first_chunk:.2f} s", ""]
        if self.traces:
            rows = [(name, milliseconds(p50), milliseconds(p95)) for name, (p50, p95) in figures(self.traces).items()]
            lines += [table(("stage", "p50", "p95"), rows), ""]
        return "\n".join(lines)
