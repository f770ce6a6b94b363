"""Settings of the property tests: the same examples in every run, and no limit of wall-clock time."""

from hypothesis import settings

settings.register_profile("vla_ros", deadline=None, derandomize=True)
settings.load_profile("vla_ros")
