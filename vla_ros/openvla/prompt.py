"""From an instruction to the ids that the model reads."""

from __future__ import annotations

from tokenizers import Tokenizer

from vla_ros.openvla.configuration import CHAT, EMPTY_WORD, PURE, OpenVlaConfig

PROMPTS = {
    PURE: "In: What action should the robot take to {}?\nOut:",
    CHAT: "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
          "detailed, and polite answers to the user's questions. USER: What action should the robot take to {}? "
          "ASSISTANT:",
}


def prompt_text(instruction: str, style: str) -> str:
    return PROMPTS[style].format(instruction.lower())


def prompt_ids(instruction: str, config: OpenVlaConfig, tokenizer: Tokenizer) -> list[int]:
    """The beginning of a text, the prompt, and the empty word, which stood before the actions in training but is not at
    the end of a prompt alone."""
    words = tokenizer.encode(prompt_text(instruction, config.style), add_special_tokens=False).ids
    end = [] if words[-1:] == [EMPTY_WORD] else [EMPTY_WORD]
    return [config.llama["bos_token_id"], *words, *end]


def asked(instruction: str, config: OpenVlaConfig, tokenizer: Tokenizer, room: int) -> tuple[list[int], str]:
    """Ids of the prompt, or why it cannot be read. room: ids at most."""
    if not any(c.isalnum() for c in instruction):
        return [], "the instruction is empty"
    ids = prompt_ids(instruction, config, tokenizer)
    return ids, f"the instruction is too long: {len(ids)} words, at most {room}" if len(ids) > room else ""
