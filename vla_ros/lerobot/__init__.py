"""LeRobot's checkpoints: what their JSON says, and the server that runs them in LeRobot's own environment."""
