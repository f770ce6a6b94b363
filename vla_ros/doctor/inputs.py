"""What a checkpoint reads: its cameras, words and prompt, beside what the robot and this package give it."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer

from vla_ros import words
from vla_ros.doctor.checkpoint import Checkpoint
from vla_ros.doctor.finding import Finding, error, ok, warning

PROMPT = "{instruction}"  # what the native policy gives its model: the instruction and nothing else
OBJECT, OTHER, WHERE = "red cube", "tray", "in"  # that stand in the sample instructions


def cameras(c: Checkpoint) -> Iterator[Finding]:
    """Name and size of each camera that the checkpoint reads, and their order."""
    size, have = c.setting("image_size", int), c.profile.cameras
    described = ", ".join(f"'{name}' {camera.width} x {camera.height} px" for name, camera in have.items())
    for name in c.cameras:
        camera = have.get(name)
        if camera is None:
            yield error("cameras", f"the checkpoint reads camera '{name}'; the profile has {described}",
                        "without its image the policy never answers", f"name the camera that looks as '{name}' did in "
                        "training so in the profile, and remap its topic")
        elif (camera.width, camera.height) != (size, size):
            yield error("cameras", f"the checkpoint reads '{name}' at {size} x {size} px, in the profile it has "
                        f"{camera.width} x {camera.height} px", "the policy refuses images of another size",
                        f"publish the camera at {size} x {size} px, and say so in the profile")
        else:
            yield ok("cameras", f"'{name}', {size} x {size} px")
    known = [name for name in c.cameras if name in have]
    if known != [name for name in have if name in known]:
        yield warning("cameras", f"the checkpoint reads {', '.join(known)} in this order, the profile has {described}",
                      "a model tells cameras apart by their order alone; here they are matched by name",
                      "see that each name is of the camera that had it in training")


def tokenizer(c: Checkpoint) -> Iterator[Finding]:
    """The vocabulary's size, and whether what people say can be spelt in it and fits."""
    path, most = c.folder / "tokenizer.json", c.setting("text_length", int) - 1
    try:
        core = Tokenizer.from_file(str(path))
    except Exception as reason:  # the library raises its own kinds, and plain Exception
        yield error("tokenizer", f"{path} cannot be read: {' '.join(str(reason).split())}",
                    "the policy node cannot open the checkpoint, and ends", "copy tokenizer.json from the training")
        return
    core.encode_special_tokens = True  # what a person types is text, whatever it looks like
    size, expected = core.get_vocab_size(), c.setting("vocab_size", int)
    if size != expected:
        yield error("tokenizer", f"tokenizer.json has {size} tokens, config.json says {expected}",
                    "words would be taken for others: the robot does something else than was said",
                    "take both files from the same training")
    samples = instructions()
    ids = [core.encode(text, add_special_tokens=False).ids for text in samples]
    lost = [text for text, row in zip(samples, ids, strict=True) if spelt(core, row) != tidy(core, text)]
    if lost:
        yield error("tokenizer", f"{len(lost)} of {len(samples)} instructions do not come back whole, the first: "
                    f"'{lost[0]}' comes back as '{spelt(core, core.encode(lost[0], add_special_tokens=False).ids)}'",
                    "words that cannot be spelt are not heard", "take tokenizer.json from the same training")
    longest = max(map(len, ids))
    if longest > most:
        yield warning("tokenizer", f"the longest of {len(samples)} instructions takes {longest} tokens, {most} fit",
                      "longer ones are refused", "say it in fewer words, or train with a greater text_length")
    if size == expected and not lost and longest <= most:
        yield ok("tokenizer", f"{size} tokens; {len(samples)} instructions encode without loss, at most {longest} of "
                 f"{most} tokens")


def instructions() -> list[str]:
    """Every shipped wording, once."""
    return [text.format(o=OBJECT, r=OTHER, d=WHERE) for texts in words.shipped(words.TRAIN).values() for text in texts]


def spelt(core: Tokenizer, ids: list[int]) -> str:
    return core.decode(ids, skip_special_tokens=False).strip()


def tidy(core: Tokenizer, text: str) -> str:
    """What the tokenizer means to keep: its own normalisation, such as lower case."""
    return core.normalizer.normalize_str(text).strip() if core.normalizer else text.strip()


def prompt(c: Checkpoint) -> Iterator[Finding]:
    """Byte for byte: a space more or less is another prompt."""
    template = c.config.get("prompt_template")
    if template is None:
        yield ok("prompt", "not applicable: the checkpoint declares none, and reads the instruction alone")
    elif template == PROMPT:
        yield ok("prompt", f"{PROMPT!r}, as the policy gives it")
    else:
        yield error("prompt", f"the checkpoint was trained on {template!r}, the policy gives {PROMPT!r}",
                    "a model reads another prompt as other words", f"train on {PROMPT!r}")
