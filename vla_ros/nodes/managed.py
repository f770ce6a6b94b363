"""Managed: a lifecycle node, with the services of rclpy.lifecycle, that can also manage itself.

A subclass says what is made (`configure`), what is lacking before it may act, and how it begins and ends; when, is said
here. With `autostart` it configures itself when it is made, and activates itself once nothing is lacking; whoever asks
for another transition then has the word from there on. Without, a manager or `ros2 lifecycle set` does both.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from vla_ros.errors import VlaError
from vla_ros.nodes import params
from vla_ros.nodes.diagnostics import STEADY, WARN, Diagnostics
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.states import INACTIVE

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
RETRY = 0.1  # [s] how often a node that manages itself looks whether it may begin
PATIENCE = 5.0  # [s] that it waits before it says what is lacking, and between two times
UNCONFIGURED, ACTIVE, FINALIZED = "unconfigured", "active", "finalized"  # and INACTIVE


class Managed(LifecycleNode):
    """Transitions come on the executor's thread. `state` is that of the lifecycle, also while a transition is made."""

    def __init__(self, name: str, table: tuple[Parameter, ...]):
        """table: the node's parameters, params.AUTOSTART among them."""
        super().__init__(name)
        self.params = params.declare(self, table)
        self.state, self.trouble = UNCONFIGURED, ""  # trouble: why it could not be configured
        self._error: Exception | None = None  # of the last transition
        self._configured: set = set()  # what `configure` has made of publishers, subscriptions, services and timers
        self._beginning, self._waiting, self._said = False, False, time.monotonic()
        self.diagnostics = Diagnostics(self, "", self._diagnose)

    # What a subclass says

    def configure(self) -> None:
        """Makes everything. Raises a VlaError for what cannot be used. Publishers of what moves the robot are
        lifecycle publishers, which are silent while the node is not active."""

    def lacking(self) -> str:
        """Why a configured node must not be activated now; empty when it may."""
        raise NotImplementedError

    def activate(self) -> None:
        """From here on the node acts."""

    def deactivate(self) -> None:
        """Ends what the node does; from here on it does nothing."""

    def release(self) -> None:
        """Undoes `configure`, also half of one, but for publishers, subscriptions, services and timers."""

    def close(self) -> None:
        """Ends what the node does at once, for the end of the process, or where nothing else can be relied on."""

    def report(self):
        """Level, message and figures for /diagnostics."""
        raise NotImplementedError

    # When

    @property
    def active(self) -> bool:
        return self.state == ACTIVE

    @property
    def standing(self) -> str:
        """Why the node does nothing, for people; empty while it is active."""
        if self.active:
            return ""
        why = (self.lacking() or "waits to be activated") if self.state == INACTIVE else self.trouble
        return f"{self.state}: {why}".rstrip(": ")

    def begin(self) -> None:
        """To be called last in the making of the node. Raises why it cannot configure itself, where it should."""
        if not self.params.autostart:
            self.get_logger().info("unconfigured: waits for a manager (autostart is false)")
            return
        self.create_timer(RETRY, self._manage_itself, clock=STEADY)
        self._beginning = True
        self.trigger_configure()
        self._beginning = False
        if self._error is not None:
            raise self._error
        self._waiting = True

    def _manage_itself(self) -> None:
        """Until the node is active for the first time, or somebody else has asked for a transition."""
        if self._error is not None and not isinstance(self._error, VlaError):
            raise self._error  # nobody foresaw it, and there is no manager: whoever runs the process starts it again
        if not self._waiting or self.state != INACTIVE:
            return
        lacking = self.lacking()
        if not lacking:
            self.trigger_activate()
        elif time.monotonic() - self._said > PATIENCE:
            self._said = time.monotonic()
            self.get_logger().warning(f"{INACTIVE}: {lacking}")

    def _diagnose(self):
        if self.active:
            return self.report()
        return WARN, self.standing, self.report()[2] if self.state == INACTIVE else {}

    # Transitions, as rclpy calls them

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit(self._configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit(self._activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit(self._deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit(self._clean_up, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit(self._shut_down, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After what nobody foresaw: nothing of before is left, and nothing moves on."""
        try:
            self.close()
        except Exception as error:
            self.get_logger().error(f"{type(error).__name__}: {error}")
        super().on_deactivate(state)
        self.state = UNCONFIGURED
        self._clear()
        return SUCCESS

    def _transit(self, make: Callable[[LifecycleState], TransitionCallbackReturn],
                 state: LifecycleState) -> TransitionCallbackReturn:
        """rclpy swallows what a callback raises."""
        self._error = None
        try:
            return make(state)
        except Exception as error:  # whatever a transition raises ends in on_error
            self._error, self.trouble = error, f"{type(error).__name__}: {error}"
            if not self._beginning:
                self.get_logger().error(self.trouble)
            return TransitionCallbackReturn.ERROR

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        before, self.trouble = self._entities(), ""
        try:
            self.configure()
        except VlaError as error:
            self._error, self.trouble = error, str(error)
            if not self._beginning:
                self.get_logger().error(f"not configured: {error}")
            return FAILURE
        finally:
            self._configured = self._entities() - before
            if self.trouble:
                self._clear()
        self.state = INACTIVE
        return super().on_configure(state)

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        lacking = self.lacking()
        if lacking:
            self.get_logger().warning(f"not activated: {lacking}")
            return FAILURE
        result = super().on_activate(state)
        self.state, self._waiting = ACTIVE, False
        self.activate()
        return result

    def _deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.deactivate()
        self.state = INACTIVE
        return super().on_deactivate(state)

    def _clean_up(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.state, self._waiting = UNCONFIGURED, False
        self._clear()
        return super().on_cleanup(state)

    def _shut_down(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self.active:
            self._deactivate(state)
        self.state = FINALIZED
        self._clear()
        return super().on_shutdown(state)

    def _entities(self) -> set:
        return {*self.publishers, *self.subscriptions, *self.services, *self.timers}

    def _clear(self) -> None:
        self.release()
        for made in self._configured:
            destroy = {Subscription: self.destroy_subscription, Service: self.destroy_service,
                       Timer: self.destroy_timer}.get(type(made), self.destroy_lifecycle_publisher)
            destroy(made)
        self._configured = set()
