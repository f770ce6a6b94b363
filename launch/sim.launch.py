"""A simulated robot and all nodes: ros2 launch vla_ros sim.launch.py robot:=panda policy:=native"""

from launch import LaunchDescription

from vla_ros.bringup import SIM_ARGUMENTS, sim_system
from vla_ros.nodes.launching import launch_actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(launch_actions(SIM_ARGUMENTS, sim_system))
