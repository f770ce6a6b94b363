"""ActionSpec refuses what has no meaning, and two specs are compared before the first motion."""

import json
from dataclasses import replace

import pytest
from core_samples import HUSKY, PANDA, ROBOTS
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ActionError, ConfigError
from vla_ros.spec import ARM_UNITS, BASE_UNITS, ActionSpec, require_compatible

ARM, BASE = PANDA.action, HUSKY.action


@st.composite
def specs(draw):
    mode, units = draw(st.sampled_from([("delta", ARM_UNITS), ("velocity", BASE_UNITS)]))
    names = tuple(draw(st.lists(st.sampled_from(sorted(units)), min_size=1, unique=True)))
    return ActionSpec(names, tuple(units[n] for n in names), draw(st.sampled_from(["base", "world"])), mode, "",
                      draw(st.floats(1e-3, 10)), draw(st.integers(1, 100)))


@given(specs())
def test_round_trip_through_json(spec):
    assert ActionSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@given(specs())
def test_a_spec_is_compatible_with_itself_whatever_the_horizon(spec):
    require_compatible(replace(spec, horizon=spec.horizon + 1), spec)


@pytest.mark.parametrize("change", [
    {"mode": "absolute"}, {"names": ("dx", "dy", "dz", "grip")}, {"names": ("dx", "dx", "dz", "gripper")},
    {"units": ("mm", "m", "m", "1")}, {"units": ("m", "m", "m")}, {"names": (), "units": ()}, {"mode": "velocity"},
    {"period": 0.0}, {"period": -0.1}, {"period": float("nan")}, {"period": float("inf")}, {"horizon": 0},
    {"gripper": "closed_is_one"}], ids=str)
def test_meaningless_specs_are_refused(change):
    with pytest.raises(ConfigError):
        replace(ARM, **change)


@pytest.mark.parametrize("missing", sorted(ARM.to_dict()))
def test_from_dict_names_what_is_missing(missing):
    data = {k: v for k, v in ARM.to_dict().items() if k != missing}
    with pytest.raises(ConfigError, match=missing):
        ActionSpec.from_dict(data)


@pytest.mark.parametrize("change", [
    {"names": ("dx", "dz", "dy", "gripper")}, {"frame": "world"}, {"period": 0.2}, {"gripper": ""}], ids=str)
def test_each_difference_is_refused_and_named(change):
    with pytest.raises(ActionError) as caught:
        require_compatible(replace(ARM, **change), ARM)
    assert caught.value.reason == "spec" and next(iter(change)) in str(caught.value)


def test_arm_and_base_are_not_compatible():
    with pytest.raises(ActionError) as caught:
        require_compatible(BASE, ARM)
    for what in ("names", "units", "frame", "mode", "gripper"):
        assert what in str(caught.value)


@pytest.mark.parametrize("robot", ROBOTS)
def test_dim_and_period(robot):
    spec = ROBOTS[robot].action
    assert spec.dim == len(spec.names) == len(spec.units) and spec.period_ns == 100_000_000
