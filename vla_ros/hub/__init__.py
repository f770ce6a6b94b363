"""Checkpoints that are not on this machine yet: from a hub, or as an archive. What could run is never brought."""
