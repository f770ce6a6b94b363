"""Make an environment with ROS 2 from PyPI a prefix to build in and to run from. Run by its interpreter; repeatable.

The wheels leave two things undone. Their exported CMake files name include folders of the machine that built them;
and nothing sets AMENT_PREFIX_PATH, by which packages find each other's share folders.
"""

import re
import sys
import sysconfig
from pathlib import Path

WRONG = re.compile(r"/opt/python/cp\d+-cp\d+\w*/(include|lib)/python3\.\d+\w*(/site-packages)?")
RIGHT = {"include": sysconfig.get_path("include"), "lib": sysconfig.get_path("purelib")}
# Runs at every start of the interpreter, after the wheels' own .pth (names are taken in order).
PTH = (
    "import os, sys; p = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep); sys.prefix in p or "
    "os.environ.__setitem__('AMENT_PREFIX_PATH', os.pathsep.join(filter(None, [*p, sys.prefix])))\n"
)


def main():
    mended = 0
    for file in Path(sys.prefix, "share").glob("*/cmake/*.cmake"):
        old = file.read_text()
        new = WRONG.sub(lambda found: RIGHT[found[1]], old)
        if new != old:
            file.write_text(new)
            mended += 1
    Path(sysconfig.get_path("purelib"), "vla_ros_prefix.pth").write_text(PTH)
    Path(sys.prefix, "local_setup.sh").touch()  # by this file colcon knows a ROS prefix; it writes its own later
    print(f"mended {mended} CMake files of the ROS wheels")


if __name__ == "__main__":
    main()
