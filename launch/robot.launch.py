"""The nodes for a robot whose drivers run elsewhere: ros2 launch vla_ros robot.launch.py robot:=FILE policy:=native"""

from launch import LaunchDescription

from vla_ros.bringup import ROBOT_ARGUMENTS, robot_system
from vla_ros.nodes.launching import launch_actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(launch_actions(ROBOT_ARGUMENTS, robot_system))
