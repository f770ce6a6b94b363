"""Small vision-language models with random weights, in transformers' own layout, for the tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from scipy.fft import dct
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PI0Config,
    PI0ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipImageProcessorPil,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

WORDS, FIRST, COUNT, END = 600, 300, 256, 2  # of the vocabulary; of the action words
ACTION_GAIN = 40.0  # of the action words' logits: so that a random model says nothing else
SIZE, PATCH = 28, 14  # [px]
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": SIZE, "patch_size": PATCH}
TEXT = {"vocab_size": WORDS, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": END, "pad_token_id": END}
DESCRIPTION = {
    "action": {"names": ["dx", "dy", "dz", "gripper"], "units": ["m", "m", "m", "1"], "frame": "panda_link0",
               "mode": "delta", "gripper": "open_is_one", "period": 0.1, "horizon": 2},
    "low": [-0.02, -0.02, -0.02, 0.0], "high": [0.02, 0.02, 0.02, 1.0], "images": ["front"],
    "prompt": "What action should the robot take to {instruction}?", "bins": {"first": FIRST, "count": COUNT}}


def tokenizer(image: str = "<image>") -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    special = ["<s>", image, "</s>"]
    made.train_from_iterator(["What action should the robot take to touch the red cube?"], trainers.BpeTrainer(
        vocab_size=FIRST, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>",
                                   extra_special_tokens={"image_token": image})
    fast.chat_template = ("{% for m in messages %}USER: {% for c in m['content'] %}"
                          "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}"
                          "{% endfor %}{% endfor %} ASSISTANT:")
    return fast


def described(folder: Path, **changes) -> Path:
    """DESCRIPTION beside a checkpoint; what is changed to None is left out."""
    said = {name: value for name, value in (DESCRIPTION | changes).items() if value is not None}
    (folder / "vla.yaml").write_text(yaml.safe_dump(said))
    return folder


def write(folder: Path, seed: int = 0, gain: float = ACTION_GAIN, vision: dict | None = None,
          text: dict | None = None, **changes) -> Path:
    """A LLaVA that says action words, the more surely the higher the gain. vision, text: over VISION and TEXT."""
    torch.manual_seed(seed)
    words, seen = tokenizer(), VISION | (vision or {})
    model = LlavaForConditionalGeneration(LlavaConfig(
        vision_config=CLIPVisionConfig(**seen), text_config=LlamaConfig(**(TEXT | (text or {}))),
        vision_feature_layer=-1, image_token_index=words.convert_tokens_to_ids("<image>")))
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head *= torch.where((torch.arange(WORDS) >= FIRST) & (torch.arange(WORDS) < FIRST + COUNT), gain, 0.01)[:, None]
    model.save_pretrained(folder)
    size, patch = seen["image_size"], seen["patch_size"]
    image = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    LlavaProcessor(image, words, patch_size=patch, vision_feature_select_strategy="default",
                   chat_template=words.chat_template, num_additional_image_tokens=1).save_pretrained(folder)
    return described(folder, **changes)


def write_larger(folder: Path) -> Path:
    """A LLaVA of 1.1 million parameters, which learns the episodes of `vla train --lora --config overfit`. Its words
    are a millimetre apart, one of them no motion: what there is less to tell apart is sooner learnt."""
    attention = {"num_attention_heads": 4}
    return write(folder, gain=10.0, action=DESCRIPTION["action"] | {"horizon": 2}, bins={"first": FIRST, "count": 41},
                 vision=attention | {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3,
                                     "image_size": 64, "patch_size": 8},
                 text=attention | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
                                   "num_key_value_heads": 4})


def write_paligemma(folder: Path) -> Path:
    words = tokenizer()
    words.add_tokens(["<loc0000>"], special_tokens=True)
    text = dict(TEXT, model_type="gemma", num_key_value_heads=1, head_dim=12,
                vocab_size=2048)  # its processor adds words
    PaliGemmaForConditionalGeneration(PaliGemmaConfig(
        vision_config=dict(VISION, model_type="siglip_vision_model", projection_dim=24), text_config=text,
        projection_dim=24, hidden_size=24, image_token_index=1)).save_pretrained(folder)
    image = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    image.image_seq_length = (SIZE // PATCH)**2
    PaliGemmaProcessor(image, words).save_pretrained(folder)
    return described(folder, chat=False, least=0.0)


def write_idefics3(folder: Path) -> Path:
    """The architecture of SmolVLM, too."""
    words = tokenizer()
    words.add_tokens(["<fake_token_around_image>", "<end_of_utterance>", "<global-img>"], special_tokens=True)
    Idefics3ForConditionalGeneration(Idefics3Config(
        vision_config=VISION, text_config=dict(TEXT, model_type="llama"), scale_factor=2, image_token_id=1,
        pad_token_id=2)).save_pretrained(folder)
    longest = {"longest_edge": SIZE}
    image = Idefics3ImageProcessorPil(size=longest, max_image_size=longest, do_image_splitting=False)
    Idefics3Processor(image, words, image_seq_len=1, chat_template=words.chat_template).save_pretrained(folder)
    return described(folder, least=0.0)


def write_smolvlm(folder: Path) -> Path:
    """SmolVLM 2, whose processor reads videos too, in the layout of the published ones."""
    words = tokenizer()
    words.add_tokens(["<fake_token_around_image>", "<end_of_utterance>", "<global-img>"], special_tokens=True)
    SmolVLMForConditionalGeneration(SmolVLMConfig(
        vision_config=VISION, text_config=dict(TEXT, model_type="llama"), scale_factor=2, image_token_id=1,
        pad_token_id=2)).save_pretrained(folder)
    longest = {"longest_edge": SIZE}
    return published(folder, words, {
        "image_processor_type": "SmolVLMImageProcessor", "processor_class": "SmolVLMProcessor", "size": longest,
        "max_image_size": longest, "do_image_splitting": False}, image_seq_len=1, processor_class="SmolVLMProcessor")


QWEN = {"qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration, "Qwen2VL"),
        "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, "Qwen2VL"),
        "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration, "Qwen2VLFast")}


def write_qwen(folder: Path, kind: str) -> Path:
    """Its processor reads videos too; in the layout of the published ones."""
    config, model, image = QWEN[kind]
    words = tokenizer("<|image_pad|>")
    special = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    words.add_tokens(special, special_tokens=True)
    words.chat_template = words.chat_template.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    picture, video, start, end = words.convert_tokens_to_ids(special)
    vision = {"depth": 2, "num_heads": 2, "patch_size": PATCH}
    vision |= {"embed_dim": 16, "hidden_size": 24, "mlp_ratio": 2} if kind == "qwen2_vl" else {
        "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 24}
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]} if kind == "qwen3_vl" else {}
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
    torch.manual_seed(0)
    model(config(
        vision_config=vision, text_config=dict(TEXT, head_dim=12, rope_parameters=rope), image_token_id=picture,
        video_token_id=video, vision_start_token_id=start, vision_end_token_id=end)).save_pretrained(folder)
    return published(folder, words, {
        "image_processor_type": f"{image[:7]}ImageProcessor{image[7:]}", "patch_size": PATCH, "merge_size": 2,
        "temporal_patch_size": 2, "min_pixels": 4 * PATCH**2, "max_pixels": 64 * PATCH**2})


def published(folder: Path, words: PreTrainedTokenizerFast, images: dict, **processor) -> Path:
    """Files of a processor as older checkpoints have them: images, words and the chat in a file each."""
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": words.chat_template}))
    words.chat_template = None
    words.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    if processor:
        (folder / "processor_config.json").write_text(json.dumps(processor))
    return described(folder, least=0.0)


def write_fast(folder: Path, horizon: int, dim: int, count: int = 400, smallest: int = -60, scale: float = 10) -> Path:
    """A FAST tokenizer in the layout of the published one, fitted to smooth random chunks."""
    rng = np.random.default_rng(0)
    chunks = np.cumsum(rng.normal(0, 0.15, (300, horizon, dim)), axis=1).clip(-1, 1)
    marks = np.around(dct(chunks, axis=1, norm="ortho") * scale).astype(int).reshape(300, -1) - smallest
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(("".join(map(chr, row)) for row in marks), trainers.BpeTrainer(
        vocab_size=count, min_frequency=2, special_tokens=[], max_token_length=10000, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "processor_config.json").write_text(json.dumps(
        {"scale": scale, "min_token": smallest, "vocab_size": count, "time_horizon": None, "action_dim": None,
         "processor_class": "UniversalActionProcessor"}))
    return folder


STATISTICS = {"state_mean": [0.5, 0.0, 0.3, 0.04], "state_std": [0.1, 0.2, 0.1, 0.03],
              "actions_mean": [0.001, 0.0, 0.0, 0.5], "actions_std": [0.005, 0.005, 0.005, 0.4]}


def write_pi0(folder: Path, seed: int = 0, vision: dict | None = None, text: dict | None = None,
              expert: dict | None = None, horizon: int = 4, steps: int = 3, **changes) -> Path:
    """A pi0, and beside it what the robot's cameras, state and actions are. vision, text, expert: over VISION and TEXT;
    steps: of its denoising; changes: over STATISTICS."""
    torch.manual_seed(seed)
    words = tokenizer()
    words.add_tokens(["<bos>"], special_tokens=True)
    text = dict(TEXT, model_type="gemma", num_key_value_heads=1, head_dim=12) | (text or {})
    width = text["hidden_size"]
    seen = dict(VISION, model_type="siglip_vision_model", projection_dim=width, vision_use_head=False) | (vision or {})
    model = PI0ForConditionalGeneration(PI0Config(
        vlm_config=dict(vision_config=seen, text_config=text, projection_dim=width, hidden_size=width,
                        image_token_id=1, model_type="paligemma"),
        dit_config=text | {"hidden_size": 16} | (expert or {}), chunk_size=horizon, max_state_dim=8, max_action_dim=8,
        num_inference_steps=steps))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(STATISTICS | changes))
    said = {"action": dict(DESCRIPTION["action"], horizon=horizon), "images": {"base_0_rgb": "front"},
            "state": {"state": ["position", "gap"]}}
    (folder / "vla.yaml").write_text(yaml.safe_dump(said))
    return folder
