"""The service vla/ask, on a node and a thread of its own: a question that waits holds up nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter

from vla_ros.errors import VlaError
from vla_ros.nodes import convert
from vla_ros.nodes.asking import Asked, ask
from vla_ros.nodes.inferring import Inferring
from vla_ros.srv import AskScene


class AskServer:
    """Serves from its making until `close`, in the namespace of the node that infers.

    standing: why nothing is to be answered now; empty when it is.
    """

    def __init__(self, node, work: Inferring, standing: Callable[[], str]):
        self._work, self._log, self._standing = work, node.get_logger(), standing
        self.node = rclpy.create_node(f"{node.get_name()}_ask", context=node.context, namespace=node.get_namespace(),
                                      start_parameter_services=False, enable_rosout=False,
                                      parameter_overrides=[Parameter("use_sim_time", value=False)])  # reads no clock
        self.node.create_service(AskScene, "vla/ask", self._on_ask)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._serve, name="ask", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def _on_ask(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        try:
            if standing := self._standing():
                raise VlaError(f"the policy node is {standing}")
            fill(response, ask(self._work, convert.words(request.question), request.camera))
        except VlaError as error:
            response.success, response.message = False, str(error)
            self._log.warning(f"question '{request.question[:100]}' not answered: {error}")
        return response

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(timeout=1.0)
        self.node.destroy_node()


def fill(response: AskScene.Response, asked: Asked) -> None:
    response.success, response.camera, response.stamp = True, asked.camera, convert.time_message(asked.stamp)
    response.answer, response.confidence = asked.answer.text, float(asked.answer.confidence)
    response.stages, response.seconds = list(asked.answer.timings), list(asked.answer.timings.values())
