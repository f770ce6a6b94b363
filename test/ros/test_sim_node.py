"""The simulation over DDS, without a robot's nodes."""

from __future__ import annotations

from std_msgs.msg import String
from vla_ros.msg import TaskState
from vla_ros.srv import ResetTask

from vla_ros.nodes import qos, sim_node


def test_words_set_the_task_that_is_judged_and_a_new_layout_sets_its_own(bench):
    node = bench.start(sim_node.SimNode, robot="panda", world="mock", mode="lockstep", task="reach", seed=0)
    states = bench.listen(TaskState, "sim/task_state", qos.EVERY_TICK)
    words = bench.speak(String, "vla/instruction", qos.REQUEST)
    resetting = bench.peer.create_client(ResetTask, "sim/reset")

    def judged(task, instruction):
        bench.until(lambda: states and (states[-1].task, states[-1].instruction) == (task, instruction),
                    f"{task}: '{instruction}'")

    own = node.world.scene.instruction
    judged("reach", own)
    words.publish(String(data="push the pink cube to the left"))
    judged("push", "push the pink cube to the left")
    words.publish(String(data="touch the green cube"))  # there is none
    words.publish(String(data="sing a song"))
    words.publish(String(data=""))
    words.publish(String(data="touch the ball"))
    judged("reach", "touch the ball")
    assert "sing a song" not in {state.instruction for state in states}
    assert node.world.scene.objects[node.world.scene.target].words == "purple ball"
    words.publish(String(data="go home"))
    judged("home", "go home")
    reset = resetting.call_async(ResetTask.Request(seed=0))
    assert bench.until(lambda: reset.done() and reset.result()).task == "reach"
    judged("reach", own)
