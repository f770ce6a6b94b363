"""What is wrong with a checkpoint, a robot or a running system, before the first motion. One check, one function.

No ROS and no torch: nodes/listening.py hears the topics, and what it heard is judged here.
"""
