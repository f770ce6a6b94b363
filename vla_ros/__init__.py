"""vla_ros: vision-language-action policies for ROS 2, validated closed-loop in PyBullet."""

import os
import pkgutil

# The interfaces (vla_ros.msg, .srv, .action) are generated into the install tree, the modules may be read from the
# source tree: both folders make up one package, in either order on the path. In an install tree of links (colcon
# --symlink-install) this file is a link, and the folder that it really lies in is where the modules are.
__path__ = pkgutil.extend_path(list(dict.fromkeys([os.path.dirname(os.path.realpath(__file__)), *__path__])), __name__)
