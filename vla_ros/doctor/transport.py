"""Whether images fit into the shared memory by which Fast DDS carries them: those that do not are lost in silence."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

from vla_ros.bringup import TRANSPORTS, largest_image, transports
from vla_ros.doctor.finding import Finding, error, ok, warning
from vla_ros.errors import ConfigError
from vla_ros.profile import RobotProfile

DEFAULT_SEGMENT = 512 * 1024  # [bytes] of Fast DDS, where nothing else is said
FILES, BUILTIN = TRANSPORTS[:2], TRANSPORTS[2]
LEAST = 2  # images of every camera at once: one is read while the next is written


def segment(environment: Mapping[str, str], image: int) -> tuple[int | None, str]:
    """[bytes] of a process's shared memory, and who says so; None where images do not travel by it. image: [bytes] of
    the largest.

    Raises ConfigError for a profiles file that cannot be read.
    """
    rmw = environment.get("RMW_IMPLEMENTATION", "")
    if rmw and "fastrtps" not in rmw:
        return None, rmw
    chosen = transports(environment, image) | environment
    file = next((chosen[name] for name in FILES if name in chosen), "")
    size, others = described(file) if file else (None, False)
    if size is not None or others:
        return size, file
    kind = chosen.get(BUILTIN, "DEFAULT").partition("?")[0]
    if kind.startswith("DEFAULT") or kind == "SHM":
        return DEFAULT_SEGMENT, f"{BUILTIN} {kind}"
    return None, f"{BUILTIN} {kind}"


def described(file: str) -> tuple[int | None, bool]:
    """[bytes] of the shared memory that a profiles file of Fast DDS describes, None where it describes none; and
    whether it describes other transports that take the place of the built-in ones."""
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as reason:
        raise ConfigError(f"Fast DDS's profiles file {file} cannot be read: {reason}") from reason
    sizes, builtin = [], True
    for descriptor in root.iter():
        if bare(descriptor) == "useBuiltinTransports":
            builtin = (descriptor.text or "").strip() != "false"
        if bare(descriptor) == "transport_descriptor":
            parts = {bare(part): (part.text or "").strip() for part in descriptor}
            if parts.get("type") == "SHM":
                text = parts.get("segment_size", str(DEFAULT_SEGMENT))
                if not text.isdecimal():
                    raise ConfigError(f"{file}: segment_size '{text}' is not a number of bytes")
                sizes.append(int(text))
    return max(sizes, default=None), not builtin


def bare(element: ElementTree.Element) -> str:
    """A tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def transport(profile: RobotProfile, environment: Mapping[str, str]) -> Finding:
    """For the images of the profile's cameras, 3 bytes a pixel."""
    try:
        size, source = segment(environment, largest_image(profile))
    except ConfigError as reason:
        return error("transport", str(reason), "Fast DDS falls back to its default, which loses large images",
                     "correct the file, or unset the variable that names it")
    if size is None:
        return ok("transport", f"not applicable: images do not travel by Fast DDS's shared memory ({source})")
    bytes_of = {name: 3 * camera.width * camera.height for name, camera in profile.cameras.items()}
    largest, total = max(bytes_of, key=bytes_of.get), LEAST * sum(bytes_of.values())
    what = f"the segment holds {size} bytes ({source})"
    mend = (f"a segment_size of {total} bytes or more in the profiles file that FASTDDS_DEFAULT_PROFILES_FILE names "
            f"(config/fastdds.xml is one), for the camera drivers too")
    if bytes_of[largest] > size:
        return error("transport", f"{what}, an image of '{largest}' is {bytes_of[largest]}",
                     "images that do not fit are lost without a word: the policy never sees one", mend)
    if total > size:
        return warning("transport", f"{what}, {LEAST} images of each camera need {total}", "some images will be lost",
                       mend)
    return ok("transport", f"{what}, {LEAST} images of each camera need {total}")
