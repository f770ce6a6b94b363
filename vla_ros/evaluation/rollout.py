"""One closed-loop episode, in process: observe, infer, decode, guard, command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.control import Controller, Tick
from vla_ros.errors import ActionError, ConfigError, ObservationError
from vla_ros.evaluation.asking import Asking
from vla_ros.evaluation.setting import BLACK, DONE, FROZEN, REFUSED, STILL, Setting
from vla_ros.observing import Pictures
from vla_ros.policy import Policy, goes_on_after
from vla_ros.sim.tasks import Task
from vla_ros.sim.world import World, WorldState
from vla_ros.splicing import DEFAULT
from vla_ros.types import ActionChunk, Observation

EXECUTE_STEPS = 4  # action steps of a chunk that are executed before a newer one takes over
ENDINGS = ("success", "time", "refused", "answered", "still", "moved", "fault")
MOVED = 0.01  # [m] from where it began: what moved less stood still
WATCHED = 3.0  # [s] that a robot without sight is looked at


@dataclass(frozen=True)
class Outcome:
    """How an episode ended. ending: one of ENDINGS; seconds: simulated [s]; detail: why.

    success: what counts as right under its condition. distance: left to do [m]; where right is to stand still, how far
    it moved. confidence: of the first chunk or refusal, None without one. gap: at seams, the largest; None without.
    """

    task: str
    seed: int
    instruction: str
    success: bool
    ending: str
    seconds: float
    distance: float
    detail: str = ""
    condition: str = "plain"
    confidence: float | None = None
    gap: float | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        return self.task, self.seed, self.condition


Hook = Callable[[World, Tick], None]


def run_episode(world: World, policy: Policy, seed: int, task: Task | None = None, execute_steps: int = EXECUTE_STEPS,
                on_step: Hook | None = None, controller: Controller | None = None) -> Outcome:
    """Runs `task` (or the world's own) from `seed` with the clock paused while the policy thinks.

    on_step: called before every control tick with the world and the tick, for recording; controller: one to use again.
    """
    world.reset(seed, task)
    return Rollout(world, policy, Setting(world.task, world.scene), execute_steps, None, controller).run(on_step)


def run_setting(world: World, policy: Policy, setting: Setting, execute_steps: int = EXECUTE_STEPS,
                thinking: float | None = None, on_step: Hook | None = None, splice: str = DEFAULT) -> Outcome:
    """Runs what a condition has set. thinking: [s] counted for an inference while the clock runs, None: as measured.
    splice: how a newer chunk takes over, by name (splicing.py)."""
    world.lay_out(setting.scene, setting.task, setting.appearance)
    controller = Controller(world.profile, splice)
    return Rollout(world, policy, setting, execute_steps, thinking, controller).run(on_step)


class Rollout:
    """One episode in a world that is laid out."""

    def __init__(self, world: World, policy: Policy, setting: Setting, execute_steps: int,
                 thinking: float | None = None, controller: Controller | None = None):
        self.world, self.policy, self.setting = world, policy, setting
        self.controller = controller or Controller(world.profile)
        if goes_on_after(policy) not in (None, execute_steps):
            raise ConfigError(f"policy '{policy.name}' was told execute_steps={goes_on_after(policy)}, {execute_steps} "
                              f"are executed here: it would go on from chunks that nobody executes")
        steps = min(execute_steps, policy.spec.horizon)  # as in nodes/commanding.py
        self.asking = Asking(policy.infer, self.observe, steps * world.profile.ticks_per_step,
                             setting.latency, thinking)
        self.begin, self.first, self.confidence, self.pictures = world.state, None, None, Pictures()
        self.change = setting.change  # None once it has come
        self.gap: float | None = None

    def run(self, on_step: Hook | None = None) -> Outcome:
        self.policy.reset()
        self.controller.reset()
        limit = min(self.world.task.time_limit, WATCHED) if self.setting.right == STILL else self.world.task.time_limit
        rate = self.world.profile.control_rate
        if self.change:
            limit = (limit if self.change.after is None else self.change.after) + self.change.task.time_limit
        try:
            for tick in range(round(limit * rate)):
                if self._due(tick / rate):
                    self._turn()
                ending = self._step(tick, on_step)
                if ending:
                    return self.outcome(*ending)
        except (ActionError, ObservationError) as error:
            return self.outcome("fault", str(error))
        return self.outcome("time")

    def _due(self, seconds: float) -> bool:
        """Whether other words are to be given now."""
        if self.change is None:
            return False
        return self.world.progress.success if self.change.after is None else seconds >= self.change.after

    def _step(self, tick: int, on_step: Hook | None) -> tuple[str, str] | None:
        """One control period; the ending and its detail when it was the last."""
        self.controller.observe(self.world.joints())
        chunk = self.asking.at(tick, self.world.stamp)
        if chunk is not None:
            ending = self._answered(chunk)
            if ending:
                return ending
            self.controller.accept(chunk)
        moved = self.controller.tick(self.world.stamp)
        if moved.seam is not None:
            self.gap = max(moved.seam.gap, self.gap or 0.0)
        if on_step:
            on_step(self.world, moved)
        self.world.step(moved.command)
        done = self.change is None and self.setting.right == DONE and self.world.progress.success
        return ("success", "") if done else None

    def _answered(self, chunk: ActionChunk) -> tuple[str, str] | None:
        if self.confidence is None:
            self.confidence = float(chunk.confidence)
        if chunk.refusal:
            return "refused", chunk.refusal
        return ("answered", chunk.text) if self.setting.right == REFUSED else None

    def _turn(self) -> None:
        """Other words: they end the motion of those before, as in nodes/commanding.py."""
        self.world.instruct(self.change.scene, self.change.task)
        self.change = None
        self.controller.halt()
        self.asking.forget()

    def observe(self) -> Observation:
        """What the cameras deliver under this setting. Raises ObservationError for what must not be acted on."""
        delivered = self._delivered()
        self.pictures.check(delivered)
        return delivered

    def _delivered(self) -> Observation:
        seen = self.world.observe()
        if self.setting.pictures == BLACK:
            return replace(seen, images={name: np.zeros_like(image) for name, image in seen.images.items()})
        if self.setting.pictures == FROZEN:
            self.first = self.first or seen
            return replace(seen, images=self.first.images)
        return seen

    def outcome(self, ending: str, detail: str = "") -> Outcome:
        right, distance = ending == "success", self.world.progress.distance
        if self.setting.right == REFUSED:
            right = ending == "refused"
        if self.setting.right == STILL:
            distance = displacement(self.begin, self.world.state)
            right = ending in ("refused", "fault") or distance < MOVED
            ending = ending if ending != "time" else "still" if right else "moved"
        return Outcome(self.setting.task.name, self.setting.scene.seed, self.world.scene.instruction, bool(right),
                       ending, self.world.stamp / 1e9, distance, detail, confidence=self.confidence, gap=self.gap)


def displacement(begin: WorldState, now: WorldState) -> float:
    """[m] of the end effector, or of the base."""
    a, b = (begin.ee, now.ee) if begin.ee is not None else (begin.base[:2], now.base[:2])
    return float(np.linalg.norm(b - a))
