"""Bags as MCAP files with the ROS 2 profile, which `ros2 bag` and Foxglove open: CDR as it came, schemas as ros2msg.

The library `mcap` is that of the format's authors; it is an extra: pip install 'vla_ros[bag]'.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rclpy.serialization import deserialize_message

from vla_ros.errors import ConfigError, VlaError
from vla_ros.nodes.graph import type_name
from vla_ros.paths import ament_share

PROFILE, SCHEMA, ENCODING = "ros2", "ros2msg", "cdr"
SEPARATOR = "=" * 80
NESTED = re.compile(r"([a-z]\w*)/([A-Z]\w*)")  # a message type within the type of a field


def definition(kind) -> str:
    """The .msg text of a message class, and of every one inside it, as MCAP wants them in one schema."""
    parts, waiting = {}, [kind]
    while waiting:
        kind = waiting.pop()
        package, _, name = type_name(kind).split("/")
        if f"{package}/{name}" in parts:
            continue
        parts[f"{package}/{name}"] = Path(ament_share(package), "msg", f"{name}.msg").read_text(encoding="utf-8")
        for field in kind.get_fields_and_field_types().values():
            waiting += [getattr(importlib.import_module(f"{p}.msg"), n) for p, n in NESTED.findall(field)]
    first, *others = parts.items()
    return "\n".join([first[1], *(f"{SEPARATOR}\nMSG: {name}\n{text}" for name, text in others)])


class BagWriter:
    """A new file. Use it in a `with` statement: a file that was not finished cannot be read."""

    def __init__(self, file: Path):
        if file.suffix != ".mcap":
            raise ConfigError(f"a bag's name ends in .mcap, '{file.name}' does not")
        try:
            self._stream = file.open("xb")
        except OSError as error:
            raise ConfigError(f"cannot make {file}: {error.strerror}") from error
        self._writer = Writer(self._stream, compression=CompressionType.ZSTD)
        self._writer.start(profile=PROFILE, library="vla_ros")
        self._channels: dict[str, int] = {}
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *error) -> None:
        self._writer.finish()
        self._stream.close()

    def add_topic(self, topic: str, kind) -> None:
        """topic: full name; kind: message class."""
        schema = self._writer.register_schema(type_name(kind), SCHEMA, definition(kind).encode())
        self._channels[topic] = self._writer.register_channel(topic, ENCODING, schema)
        self.counts[topic] = 0

    def write(self, topic: str, data: bytes, received: int, published: int) -> None:
        """data: CDR; received, published: wall clock [ns]."""
        self._writer.add_message(self._channels[topic], log_time=received, data=data, publish_time=published,
                                 sequence=self.counts[topic])
        self.counts[topic] += 1


@dataclass(frozen=True)
class Recorded:
    """One message of a bag. received: when it was recorded, wall clock [ns]."""

    topic: str
    type: str
    data: bytes
    received: int

    def message(self, kind):
        """Raises ConfigError when it is of another type, or no such message."""
        if self.type != type_name(kind):
            raise ConfigError(f"topic {self.topic} holds {self.type}, not {type_name(kind)}")
        try:
            return deserialize_message(self.data, kind)
        except Exception as error:  # rclpy raises what the middleware gives
            raise ConfigError(f"topic {self.topic}: a message that cannot be read: {error}") from error


class BagReader:
    """A .mcap file, or a folder of them as `ros2 bag record` makes it."""

    def __init__(self, path: Path):
        self.path = path
        files = path.glob("*.mcap") if path.is_dir() else [path]
        self._files = sorted(files, key=lambda file: (len(file.name), file.name))  # bag_0, bag_1, ... bag_10
        if not self._files or not all(file.is_file() for file in self._files):
            raise ConfigError(f"no bag {path}: expected a .mcap file, or a folder that holds some")

    def topics(self) -> dict[str, str]:
        """Type by topic."""
        types = {}
        for file in self._files:
            with opened(file) as reader:
                summary = reader.get_summary()
                types |= {channel.topic: summary.schemas[channel.schema_id].name
                          for channel in summary.channels.values()}
        return types

    def messages(self, topics: Iterable[str]) -> Iterator[Recorded]:
        """In the order in which they were recorded."""
        for file in self._files:
            with opened(file) as reader:
                for schema, channel, message in reader.iter_messages(sorted(topics)):
                    if channel.message_encoding != ENCODING:
                        raise ConfigError(f"topic {channel.topic} is encoded as '{channel.message_encoding}', "
                                          f"expected {ENCODING}")
                    yield Recorded(channel.topic, schema.name, message.data, message.log_time)


@contextmanager
def opened(file: Path):
    """The reader of one file. What is wrong with the file becomes a ConfigError."""
    try:
        with file.open("rb") as stream:
            yield make_reader(stream, validate_crcs=True)
    except VlaError:
        raise
    except Exception as error:  # a damaged file makes the reader and the decompressors raise all sorts
        raise ConfigError(f"{file} is not a whole MCAP file: {error or type(error).__name__}") from error
