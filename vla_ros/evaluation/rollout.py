"""One closed-loop episode, in process: observe, infer, decode, guard, command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.control import Controller, Tick
from vla_ros.errors import ActionError
from vla_ros.policy import Policy

EXECUTE_STEPS = 4  # action steps of a chunk that are executed before the next observation, paused clock


@dataclass(frozen=True)
class Outcome:
    """How an episode ended. seconds: simulated [s]; distance: left to do [m]; ending: success, refused, time, fault."""

    task: str
    seed: int
    instruction: str
    success: bool
    ending: str
    seconds: float
    distance: float
    detail: str = ""


def run_episode(world, policy: Policy, seed: int, task=None, execute_steps: int = EXECUTE_STEPS,
                on_step: Callable[[object, Tick], None] | None = None) -> Outcome:
    """Runs `task` (or the world's own) from `seed` with the clock paused while the policy thinks.

    on_step is called before every control tick with the world and the tick, for recording.
    """
    world.reset(seed, task)
    policy.reset()
    controller = Controller(world.profile)
    ticks = round(world.task.time_limit * world.profile.control_rate)
    for tick in range(ticks):
        controller.observe(world.joints())
        if tick % (execute_steps * world.profile.ticks_per_step) == 0:
            chunk = policy.infer(world.observe())
            if chunk.refusal:
                return outcome(world, seed, "refused", chunk.refusal)
            try:
                controller.accept(chunk)
            except ActionError as error:
                return outcome(world, seed, "fault", str(error))
        moved = controller.tick(world.stamp)
        if on_step:
            on_step(world, moved)
        world.step(moved.command)
        if world.progress.success:
            return outcome(world, seed, "success")
    return outcome(world, seed, "time")


def outcome(world, seed: int, ending: str, detail: str = "") -> Outcome:
    return Outcome(world.task.name, seed, world.scene.instruction, ending == "success", ending,
                   world.stamp / 1e9, world.progress.distance, detail)
