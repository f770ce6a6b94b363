"""vla_ros: vision-language-action policies for ROS 2, validated closed-loop in PyBullet."""

# The interfaces (vla_ros.msg, .srv, .action) are generated into the install tree, the modules may be
# imported from the source tree: both folders make up one package, in either order on the path.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
