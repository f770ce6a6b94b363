"""A bag replayed: its observations and instructions through a policy again, and the chunks compared with the bag's.

What decides a chunk is the observation, the words, and what the policy remembers: not when a message came or how long
the model took. So no node runs here and no clock: `Inferring`, which is all that the policy node does between its
topics, is fed from the file. DDS in between would add nothing but a chance to lose messages, and its lockstep is for
simulators alone: it wants all parts of an observation to have one stamp. A chunk carries the stamp of the observation
that it answers. Everything up to that observation is fed in recorded order, with the newest stamp as the time of day,
and then one inference is made; observations that the policy node passed over, because it was busy, are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_ros.errors import ActionError, ConfigError, ObservationError
from vla_ros.msg import ActionChunk
from vla_ros.nodes import convert, inputs
from vla_ros.nodes.bag import BagReader, Recorded
from vla_ros.nodes.inferring import JOINTS, Inferring
from vla_ros.nodes.pairing import Pairing, Part
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile

MEASURED = ("sequence", "stages", "seconds")  # fields of a chunk that are counted or measured, not decided


@dataclass(frozen=True)
class Compared:
    """One chunk of the bag. stamp: [ns] of its observation; difference: what became of it; empty when it is equal."""

    sequence: int
    stamp: int
    difference: str


class Replay:
    """lacking: how many chunks the bag lost, by their numbers. Policies that remember may differ after those."""

    def __init__(self, bag: BagReader, policy: Policy, profile: RobotProfile,
                 barred: Callable[[str], str] = lambda words: ""):
        self._bag, self._bar, self._clock = bag, barred, 0
        self._inferring = Inferring(policy, profile, convert.image_array, lambda: self._clock, barred=barred)
        self._find_topics(policy.cameras)
        self._words: list[tuple[int, str]] = []  # place in the bag, and instruction
        self._chunks: list[tuple[int, ActionChunk]] = []
        self._places: dict[int, int] = {}  # stamp [ns] of an observation -> place of the message that made it whole
        self._scan(Pairing([*policy.cameras, JOINTS]))
        self._given = self._fed = 0  # instructions given; messages fed
        self._coming = self._messages()
        numbers = [chunk.sequence for _, chunk in self._chunks]
        self.lacking = sum(max(0, b - a - 1) for a, b in zip(numbers, numbers[1:], strict=False))

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[Compared]:
        """Each chunk of the bag; once."""
        last = -1
        for place, chunk in self._chunks:
            if chunk.sequence <= last:  # another policy node: it remembered nothing
                self._inferring.instruct("")
            last, stamp = chunk.sequence, convert.nanoseconds(chunk.header.stamp)
            yield Compared(chunk.sequence, stamp, self._again(place, chunk, stamp))

    # What the bag holds

    def _find_topics(self, cameras: tuple[str, ...]) -> None:
        """Raises ConfigError when the bag is not of exactly one policy node with these cameras."""
        have = self._bag.topics()
        ends = [t for t in have if t.endswith("/" + inputs.CHUNKS)]
        if len(ends) != 1:
            found = ", ".join(ends or sorted(have)) or "none"
            raise ConfigError(f"{self._bag.path} must hold one topic {inputs.CHUNKS}; it has: {found}")
        base = ends[0].removesuffix(inputs.CHUNKS)
        raw, compressed = inputs.cameras(cameras), inputs.cameras(cameras, compressed=True)
        chosen = {name: raw[name] if base + raw[name][0] in have else compressed[name] for name in cameras}
        self._sources = {base + topic: (name, kind) for name, (topic, kind) in chosen.items()}
        self._sources[base + inputs.JOINTS] = JOINTS, JointState
        self._instruction, self._answers = base + inputs.INSTRUCTION, base + inputs.CHUNKS
        missing = [topic for topic in (*self._sources, self._instruction) if topic not in have]
        if missing:
            raise ConfigError(f"{self._bag.path} lacks {', '.join(missing)}; it has: {', '.join(sorted(have))}")

    def _scan(self, pairing: Pairing) -> None:
        for place, recorded in self._messages():
            if recorded.topic == self._answers:
                self._chunks.append((place, recorded.message(ActionChunk)))
            elif recorded.topic == self._instruction:
                self._words.append((place, words_of(recorded.message(String))))
            elif (part := self._part(recorded)) is not None:
                pairing.add(part[0], Part(part[1], None))
                parts = pairing.newest() or {}
                if parts:
                    self._places.setdefault(min(p.stamp for p in parts.values()), place)
        if not self._chunks:
            raise ConfigError(f"{self._bag.path} holds no chunk to compare with: was an instruction given?")

    def _messages(self) -> Iterator[tuple[int, Recorded]]:
        return enumerate(self._bag.messages([*self._sources, self._instruction, self._answers]))

    def _part(self, recorded: Recorded):
        """(source, stamp, item); None for what the policy node passes over."""
        source, kind = self._sources[recorded.topic]
        message = recorded.message(kind)
        if source != JOINTS:
            return source, convert.nanoseconds(message.header.stamp), message
        try:
            joints = convert.joint_state(message)
        except ObservationError:
            return None
        return source, joints.stamp, joints

    # One chunk again

    def _again(self, place: int, chunk: ActionChunk, stamp: int) -> str:
        """The difference."""
        if not self._instruct(place, chunk.instruction):
            return f"the bag lacks the instruction '{chunk.instruction}': it was given before the recording"
        if self._bar(chunk.instruction):
            self._clock = stamp  # refused without an observation: the chunk says when
        elif not self._feed(stamp):
            return "the bag lacks its observation: a message was lost, or came before the recording"
        job = self._inferring.next()
        answer = None if job is None else self._inferring.infer(job)
        if answer is None:
            return f"no chunk: {self._inferring.status.state}: {self._inferring.status.detail}"
        try:
            return difference(chunk, convert.chunk_message(answer, job.instruction))
        except ActionError as error:
            return f"no chunk: {error}"

    def _instruct(self, place: int, words: str) -> bool:
        """Gives the instructions up to the newest one before `place` that says `words`; false when there is none.

        What was said after it but recorded before its last chunk waits. Where the two topics overtook each other, the
        instruction is the first one after `place`.
        """
        fitting = [index for index, (_, said) in enumerate(self._words) if said == words]
        before = [index for index in fitting if self._words[index][0] < place]
        if not fitting:
            return False
        index = before[-1] if before else fitting[0]
        for _, said in self._words[self._given:index + 1]:
            self._inferring.instruct(said)
        self._given = max(self._given, index + 1)
        return self._inferring.instruction == words

    def _feed(self, stamp: int) -> bool:
        """Adds parts until the newest observation is that of `stamp` [ns]; false when there is no such one to come."""
        place = self._places.get(stamp)
        if place is None or place < self._fed - 1:
            return False
        while self._fed <= place:
            _, recorded = next(self._coming)
            self._fed += 1
            part = self._part(recorded) if recorded.topic in self._sources else None
            if part is not None:
                self._clock = max(self._clock, part[1])
                self._inferring.add(*part)
        return True


def words_of(message: String) -> str:
    """As the policy node takes them: too many words are none."""
    try:
        return convert.words(message.data)
    except ObservationError:
        return ""


def difference(recorded: ActionChunk, again: ActionChunk) -> str:
    """The first field in which a chunk is not what it was, byte for byte; empty when there is none."""
    for name in recorded.get_fields_and_field_types():
        before, after = getattr(recorded, name), getattr(again, name)
        if name in ("values", "tokens"):
            if before.tobytes() != after.tobytes():
                return f"{name} {element(list(before), list(after), list(recorded.names))}"
        elif name not in MEASURED and before != after:
            return f"{name}: {after!r} instead of {before!r}"
    return ""


def element(before: list, after: list, names: list[str]) -> str:
    """Where two rows of numbers first differ; -0.0 is not 0.0."""
    if len(before) != len(after):
        return f"are {len(after)} instead of {len(before)}"
    index = next((i for i, pair in enumerate(zip(before, after, strict=True)) if repr(pair[0]) != repr(pair[1])), 0)
    step, name = divmod(index, len(names))
    return f"at step {step}, {names[name]}: {after[index]!r} instead of {before[index]!r}"
