"""/diagnostics at 1 Hz: one status a node, with its figures as key and value."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType

from vla_ros.nodes.statistics import Window

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STEADY = Clock(clock_type=ClockType.STEADY_TIME)  # timers of wall time: they run when the simulated clock stands still


class Diagnostics:
    """report: gives level, message and figures when asked."""

    def __init__(self, node, hardware: str, report: Callable[[], tuple[bytes, str, Mapping[str, object]]]):
        self._node, self.hardware, self._report = node, hardware, report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        node.create_timer(1.0, self.publish, clock=STEADY)

    def publish(self) -> None:
        level, message, figures = self._report()
        values = [KeyValue(key=key, value=text(value)) for key, value in figures.items()]
        status = DiagnosticStatus(level=level, name=self._node.get_fully_qualified_name().lstrip("/"), message=message,
                                  hardware_id=self.hardware, values=values)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def text(value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def milliseconds(windows: Mapping[str, Window]) -> dict[str, float]:
    """Percentiles of samples [s] by stage, as diagnostics' keys [ms]."""
    return {f"{stage} {share} [ms]": 1e3 * getattr(window, share) for stage, window in dict(windows).items()
            for share in ("p50", "p95", "p99")}


def spread(what: str, unit: str, window: Window) -> dict[str, float]:
    """Percentiles and maximum of samples in their own unit, as diagnostics' keys."""
    return {f"{what} {share} [{unit}]": getattr(window, share) for share in ("p50", "p95", "max")}


def counts(what: str, counter: Mapping[str, int]) -> dict[str, int]:
    """A counter that another thread may be counting in."""
    return {f"{what}: {kind}": count for kind, count in dict(counter).items()}
