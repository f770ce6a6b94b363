"""The ROS 2 nodes: thin, around the library. The only folder that imports rclpy and message types."""
