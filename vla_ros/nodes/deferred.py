"""An action server that is told when a goal ends."""

from __future__ import annotations

from rclpy.action import ActionServer


class DeferredServer(ActionServer):
    """An action server whose goals are executing from their acceptance until `finish`.

    rclpy would run a callback for as long as the goal lasts; a coroutine that waits keeps its executor spinning.
    """

    def notify_execute(self, goal_handle, execute_callback) -> None:
        """Nothing runs: the node's callbacks follow the goal."""

    def finish(self, goal, result) -> None:
        super().notify_execute(goal, lambda _: result)
