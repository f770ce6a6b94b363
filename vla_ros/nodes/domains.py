"""A ROS domain of one's own: nodes of different domains do not see each other."""

from __future__ import annotations

import os
import random
import socket

from vla_ros.errors import SimulationError

DOMAINS = range(1, 100)  # their ports lie below those that Linux gives to others
PORT_BASE, DOMAIN_GAIN, PARTICIPANTS = 7400, 250, 10  # of the DDS standard; unicast ports are looked at for so many


def own_domain() -> int | None:
    """None where the user set ROS_DOMAIN_ID, which then holds; else a domain that nobody on this host uses."""
    return None if os.environ.get("ROS_DOMAIN_ID") else free_domain()


def free_domain() -> int:
    """Drawn at random, so that two that ask at the same time hardly get the same."""
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        first = PORT_BASE + DOMAIN_GAIN * domain
        if all(is_free(port) for port in (first, *range(first + 10, first + 10 + 2 * PARTICIPANTS))):
            return domain
    raise SimulationError("every ROS domain of this host is in use; set ROS_DOMAIN_ID")


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
