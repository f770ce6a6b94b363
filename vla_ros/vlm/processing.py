"""What turns images and words into what a model reads: the processor of `transformers` for its kind, without videos.

Processors of models that read videos too ask for torchvision, whose build has to be the very one of torch's. No robot
sends a video here, so that they are made without.
"""

from __future__ import annotations

from pathlib import Path

import transformers
from transformers import PROCESSOR_MAPPING, AutoImageProcessor, AutoProcessor, AutoTokenizer, PreTrainedConfig

from vla_ros.vlm.opening import OWN

IMAGE, TEXT, VIDEO = "image_processor", "tokenizer", "video_processor"
# SmolVLMProcessor wants num2words, to count the frames of a video; of images and words the other makes the same.
ALIKE = {"SmolVLMProcessor": "Idefics3Processor"}


def without_videos(kind: type) -> type:
    """A processor's class that takes None for what prepares videos."""
    def check(self, name: str, part) -> type | None:
        return None if name == VIDEO else kind.check_argument_for_proper_class(self, name, part)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})


def open_processor(folder: Path, config: PreTrainedConfig):
    """config: of the checkpoint in the folder. Raises whatever `transformers` does for files that do not fit."""
    made = {IMAGE: AutoImageProcessor, TEXT: AutoTokenizer}
    kind = PROCESSOR_MAPPING[type(config)] if type(config) in PROCESSOR_MAPPING else None
    if kind is None or set(kind.get_attributes()) != {*made, VIDEO}:
        return AutoProcessor.from_pretrained(folder, **OWN)
    kind = without_videos(getattr(transformers, ALIKE.get(kind.__name__, kind.__name__)))
    parts = [made[name].from_pretrained(folder, **OWN) if name in made else None for name in kind.get_attributes()]
    settings, _ = kind.get_processor_dict(folder, **OWN)
    return kind.from_args_and_dict(parts, settings)
