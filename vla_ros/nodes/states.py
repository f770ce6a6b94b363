"""The states that nodes report, as words. convert.py knows their numbers in the messages."""

# vla/policy_status
WAITING, RUNNING, REFUSED, STALE = "waiting", "running", "refused", "stale"
# vla/control_status
IDLE, EXECUTING, HOLDING, STOPPED = "idle", "executing", "holding", "stopped"
STALLED, NO_PROGRESS, HELD = "stalled", "no progress", "held"
# both
FAILED = "failed"
# of a lifecycle node that waits to be activated; the detail of a status begins with it
INACTIVE = "inactive"
# of vla/control_status and an outcome of vla/execute
HALTED = "halted"
# the outcome of vla/execute
SUCCEEDED, TIMED_OUT, CANCELED = "succeeded", "timed out", "canceled"  # and REFUSED, STALLED, NO_PROGRESS, HALTED
