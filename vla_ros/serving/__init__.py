"""`vla serve`: a policy of ours for robots elsewhere."""
