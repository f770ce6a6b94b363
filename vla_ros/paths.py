"""Where the files that ship with the package are. No heavy imports."""

from __future__ import annotations

from pathlib import Path

from vla_ros.errors import CheckpointError, ConfigError


def data_folder(name: str) -> Path:
    """config/ or checkpoints/: of the source tree, else of the wheel (inside the package), else of the share folder."""
    package = Path(__file__).resolve().parent
    source = package.parent
    if (source / "package.xml").is_file() and (source / name).is_dir():
        return source / name
    if (package / name).is_dir():
        return package / name
    return Path(ament_share("vla_ros"), name)


def shipped_checkpoint(robot: str) -> Path:
    """The folder of the checkpoint that ships for a robot."""
    folder = data_folder("checkpoints") / robot
    if not folder.is_dir():
        shipped = sorted(p.name for p in folder.parent.glob("*") if p.is_dir())
        raise CheckpointError(f"no checkpoint ships for robot '{robot}'; there are: {', '.join(shipped) or 'none'}")
    return folder


def ament_share(package: str) -> str:
    """The share folder of a ROS package that is installed and sourced, or ConfigError."""
    try:
        from ament_index_python.packages import get_package_share_directory

        return get_package_share_directory(package)
    except Exception as error:  # ament_index_python is absent without ROS, and raises its own kinds with it
        raise ConfigError(f"package '{package}' is neither a Python package nor in the ament index") from error
