"""OpenVLA checkpoints in their own layout: read, run, and turned into actions, with none of their remote code."""
