"""One closed-loop episode, in process: observe, infer, decode, guard, command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.control import Controller, Tick
from vla_ros.errors import ActionError, ObservationError
from vla_ros.policy import Policy
from vla_ros.sim.tasks import Task
from vla_ros.sim.world import World

EXECUTE_STEPS = 4  # action steps of a chunk that are executed before the next observation, paused clock
ENDINGS = ("success", "time", "refused", "fault")


@dataclass(frozen=True)
class Outcome:
    """How an episode ended. ending: one of ENDINGS; seconds: simulated [s]; distance: left to do [m]; detail: why."""

    task: str
    seed: int
    instruction: str
    success: bool
    ending: str
    seconds: float
    distance: float
    detail: str = ""


def run_episode(world: World, policy: Policy, seed: int, task: Task | None = None, execute_steps: int = EXECUTE_STEPS,
                on_step: Callable[[World, Tick], None] | None = None, controller: Controller | None = None) -> Outcome:
    """Runs `task` (or the world's own) from `seed` with the clock paused while the policy thinks.

    on_step: called before every control tick with the world and the tick, for recording; controller: one to use again.
    """
    world.reset(seed, task)
    policy.reset()
    controller = controller or Controller(world.profile)
    controller.reset()
    try:
        for tick in range(round(world.task.time_limit * world.profile.control_rate)):
            controller.observe(world.joints())
            if tick % (execute_steps * world.profile.ticks_per_step) == 0:
                chunk = policy.infer(world.observe())
                if chunk.refusal:
                    return outcome(world, seed, "refused", chunk.refusal)
                controller.accept(chunk)
            moved = controller.tick(world.stamp)
            if on_step:
                on_step(world, moved)
            world.step(moved.command)
            if world.progress.success:
                return outcome(world, seed, "success")
    except (ActionError, ObservationError) as error:
        return outcome(world, seed, "fault", str(error))
    return outcome(world, seed, "time")


def outcome(world: World, seed: int, ending: str, detail: str = "") -> Outcome:
    return Outcome(world.task.name, seed, world.scene.instruction, ending == "success", ending,
                   world.stamp / 1e9, world.progress.distance, detail)
