"""What goes into the wheel; everything else about it stands in pyproject.toml.

The wheel is the package without ROS: sim/ becomes vla_ros.sim, and config/ and checkpoints/ travel inside the
package, where vla_ros/paths.py looks for them.
"""

from setuptools import find_namespace_packages, setup

CODE = {"vla_ros": "vla_ros", "vla_ros.sim": "sim"}
DATA = {"vla_ros.config": "config", "vla_ros.checkpoints": "checkpoints"}


def packages(name: str, folder: str) -> list[str]:
    """`name` and all below it. vla_ros/sim is a link to sim/, which is listed by itself."""
    return [name, *(f"{name}.{sub}" for sub in find_namespace_packages(folder, exclude=["sim*", "*__pycache__"]))]


setup(
    packages=[p for name, folder in CODE.items() for p in packages(name, folder)] + list(DATA),
    package_dir=CODE | DATA,
    package_data=dict.fromkeys(["vla_ros.sim", *DATA], ["**/*"]),
    exclude_package_data={"": ["**/__pycache__/*"]},
)
