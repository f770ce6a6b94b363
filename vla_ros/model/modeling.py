"""The native VLA: a ViT, an MLP projector, a decoder-only language model and an action expert over one vocabulary.

Letters: B images, K instructions an image, P patches of an image, I image tokens of the language model, L text tokens,
S seek tokens, G glimpses, Q action tokens (horizon x dim), A tokens of an answer, d width.

    [image: I] [text: L] [seek: S] -> [look: 3 x (x, y)] -> [action: Q]
    [image: I] [text: L] [seek: S] -> [glimpse: G] [<answer> and the words of the answer: A]

Image tokens see each other, so an image is encoded once for any number of texts. Text sees the text before it. Seek
tokens see image and text: target and reference say where the instruction's things stand, the verdict whether it is to
be done at all; the intent sees the text alone. The action expert decodes all action tokens in one pass, from the intent
and what the words look for, the look tokens, the shapes of what is looked at and proprioception. An answer sees all
before it, and what is to be seen where the question made the model look (glimpses).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaModel, PreTrainedModel

from vla_ros.model import vocabulary as vocab
from vla_ros.model.acting import BANDS, ActionExpert
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.glimpse import Glimpse
from vla_ros.model.look import NAMED, Look, mean
from vla_ros.model.vision import Projector, make_vision


@dataclass(frozen=True)
class Sight:
    """What an instruction made the model see: look logits (B, K, 3, P + 2) and queries (B, K, 3, look_width), logits
    of the landmarks (B, K, 2, P + 2), verdict logits (B, K, verdicts), intent (B, K, intent_width), patches (B, P,
    vision_width).
    """

    look_logits: Tensor
    mark_logits: Tensor
    query: Tensor
    verdict: Tensor
    intent: Tensor
    patches: Tensor

    def row(self, index: int) -> Sight:
        """Of one image, which stays a batch of one."""
        return Sight(*(getattr(self, part.name)[index:index + 1] for part in fields(self)))


class VlaModel(PreTrainedModel):
    """See the module. Weights are saved and opened by save_pretrained and from_pretrained, in safetensors."""

    config_class = VlaConfig
    base_model_prefix = "vla"

    def __init__(self, config: VlaConfig):
        super().__init__(config)
        c, d = config, config.width
        self.vision, self.projector, self.look = make_vision(c), Projector(c), Look(c)
        self.language = LlamaModel(LlamaConfig(
            vocab_size=c.vocab_size, hidden_size=d, num_hidden_layers=c.layers, num_attention_heads=c.heads,
            num_key_value_heads=c.heads, intermediate_size=c.mlp, max_position_embeddings=1024,
            pad_token_id=vocab.PAD, attn_implementation="eager"))
        self.seek = len(NAMED) + 2  # and verdict and intent, the last two
        self.glimpses = c.sought + 1 if c.spatial else 0
        self.seek_queries = nn.Parameter(torch.randn(self.seek, d) * 0.02)
        self.glimpse = Glimpse(c) if c.spatial else None
        self.expert = ActionExpert(c)
        self.post_init()
        self._smooth_positions()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02 if isinstance(module, nn.Linear) else 0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @torch.no_grad()
    def _smooth_positions(self) -> None:
        """Neighbouring positions and neighbouring action bins begin with like embeddings, as their values are alike."""
        table = self.language.embed_tokens.weight
        for start, count in ((vocab.LOOK_X, vocab.LOOK_BINS), (vocab.LOOK_Y, vocab.LOOK_BINS),
                             (vocab.ACTIONS, vocab.ACTION_BINS)):
            if table.is_meta:
                return
            x = torch.linspace(-1, 1, count)[:, None]
            waves = torch.cat([f(x * torch.pi * 2.0**k) for k in range(-1, BANDS) for f in (torch.sin, torch.cos)], 1)
            mix = torch.randn(waves.shape[1], table.shape[1]) / waves.shape[1] ** 0.5
            table[start:start + count] = waves @ mix * 0.05

    # --- parts -------------------------------------------------------------------------------------------------

    def remember(self, pixels: Tensor) -> tuple[Tensor, DynamicCache]:
        """Reads images (B, 3, H, W) in [-1, 1]: patches (B, P, vision_width), and the memory of their image tokens."""
        patches = self.vision(pixels).last_hidden_state[:, 1:]
        image = self.projector(patches)
        memory = DynamicCache(config=self.language.config)
        mask = torch.ones(1, image.shape[1], image.shape[1], dtype=torch.bool, device=image.device)
        self._run(image, mask, memory, torch.arange(image.shape[1], device=image.device))
        return patches, memory

    def score(self, hidden: Tensor, first: int, last: int) -> Tensor:
        """hidden (..., d) -> (..., last - first): scores of these tokens, against their own embeddings."""
        return F.linear(hidden, self.language.embed_tokens.weight[first:last])

    def read(self, text_ids: Tensor, memory: DynamicCache, patches: Tensor) -> Sight:
        """Instructions (B, K, L) on images whose memory was repeated K times; leaves text and seek in the memory."""
        b, k, length = text_ids.shape
        text_mask = (text_ids != vocab.PAD).flatten(0, 1)
        tokens = self._with_seek(text_ids.flatten(0, 1)).to(patches.dtype)
        hidden = self._run(tokens, self._reading_mask(text_mask), memory, self._positions(length, self.seek))
        seek = hidden[:, length:].unflatten(0, (b, k))
        text = mean(hidden[:, :length], text_mask).unflatten(0, (b, k))
        words = self.look.ask(tokens[:, :length], hidden[:, :length], text_mask).unflatten(0, (b, k))
        logits, marks, query = self.look(patches, words, text, seek[:, :, :-2])
        verdict = self.score(seek[:, :, -2], *vocab.VERDICT_RANGE)
        return Sight(logits, marks, query, verdict, self._intent(seek[:, :, -1], words), patches)

    def intend(self, text_ids: Tensor) -> Tensor:
        """The intent of words alone: text_ids (N, L) -> (N, intent_width), the same as read() gives with any image."""
        text_mask, length, tokens = text_ids != vocab.PAD, text_ids.shape[1], self._with_seek(text_ids)
        hidden = self._run(tokens, self._reading_mask(text_mask, image_tokens=0),
                           DynamicCache(config=self.language.config), self._positions(length, self.seek))
        return self._intent(hidden[:, -1], self.look.ask(tokens[:, :length], hidden[:, :length], text_mask))

    def _intent(self, done: Tensor, words: Tensor) -> Tensor:
        """done (..., d), what is to be done; words (..., S, look_width) of ask(), with what -> (..., intent_width).

        How high a thing is decides where the hand goes, and only its name says so.
        """
        if not self.config.spatial:
            return done
        named = F.normalize(words[..., :len(NAMED), :], dim=-1) * self.config.look_width**0.5
        return torch.cat([done, named.flatten(-2)], -1)

    def act(self, intent: Tensor, look_ids: Tensor, proprio: Tensor, shape: Tensor | None = None) -> Tensor:
        """intent (N, intent_width), look_ids (N, 6), proprio (N, D), shape (N, 2) -> logits (N, Q, bins)."""
        hidden = self.expert(intent, look_ids, proprio, shape)
        return self.score(hidden, vocab.ACTIONS, vocab.ACTIONS + vocab.ACTION_BINS)

    def name(self, text_ids: Tensor) -> Tensor:
        """What words alone look for, without any image: text_ids (N, L) -> queries (N, sought, look_width), of length
        1.
        """
        text_mask, memory = text_ids != vocab.PAD, DynamicCache(config=self.language.config)
        seen = torch.ones(text_ids.shape[1], text_ids.shape[1], dtype=torch.bool, device=text_ids.device).tril()
        words = self.language.embed_tokens(text_ids)
        hidden = self._run(words, seen & text_mask[:, None], memory, self._positions(text_ids.shape[1], 0))
        return F.normalize(self.look.ask(words, hidden, text_mask), dim=-1)

    # --- passes ------------------------------------------------------------------------------------------------

    def see(self, pixels: Tensor, text_ids: Tensor) -> tuple[Sight, DynamicCache]:
        """K instructions (B, K, L) on each image (B, 3, H, W)."""
        patches, memory = self.remember(pixels)
        memory.batch_repeat_interleave(text_ids.shape[1])
        return self.read(text_ids, memory, patches), memory

    def forward(self, pixels: Tensor, text_ids: Tensor, proprio: Tensor, look_ids: Tensor,
                shape: Tensor | None = None) -> tuple[Sight, Tensor]:
        """K instructions on each image, with proprio (B, D), look_ids (B, K, 6) and shape (B, K, 2) to act on.

        Returns what was seen, and action logits (B, K, Q, bins).
        """
        b, k, _ = text_ids.shape
        sight, _ = self.see(pixels, text_ids)
        body = proprio[:, None].expand(-1, k, -1).flatten(0, 1)
        shape = None if shape is None else shape.flatten(0, 1)
        logits = self.act(sight.intent.flatten(0, 1), look_ids.flatten(0, 1), body, shape)
        return sight, logits.unflatten(0, (b, k))

    def answer_logits(self, pixels: Tensor, text_ids: Tensor, answer_ids: Tensor) -> tuple[Tensor, Sight]:
        """Questions (B, K, L) and answers that begin with <answer> (B, K, A) -> next-token logits (B, K, A, vocab), and
        where the questions made the model look."""
        b, k, _ = text_ids.shape
        sight, memory = self.see(pixels, text_ids)
        counted = self._glimpse(sight, text_ids, memory)
        hidden = self._reply(answer_ids.flatten(0, 1), (text_ids != vocab.PAD).flatten(0, 1), memory, 0, counted)
        return self.score(hidden, 0, self.config.vocab_size).unflatten(0, (b, k)), sight

    @torch.no_grad()
    def reply(self, pixels: Tensor, text_ids: Tensor) -> tuple[list[int], float]:
        """The answer to one question text_ids (1, L) about one image, greedily: token ids, and their joint probability.

        The keys and values of what was read and said are kept: each word costs one token.
        """
        sight, memory = self.see(pixels, text_ids[None])
        counted = self._glimpse(sight, text_ids[None], memory)
        token, said, probability = vocab.ANSWER, [], 1.0
        for place in range(self.config.answer_length):
            last = torch.tensor([[token]], device=text_ids.device)
            hidden = self._reply(last, text_ids != vocab.PAD, memory, place, counted)
            odds = self.score(hidden[0, -1], 0, self.config.vocab_size).float().softmax(-1)
            token = int(odds.argmax())
            probability *= float(odds[token])
            if token == vocab.END:
                break
            said.append(token)
        return said, probability

    def _glimpse(self, sight: Sight, text_ids: Tensor, memory: DynamicCache) -> Tensor:
        """Puts what is to be seen where the model looks in the memory, after questions (B, K, L) and seek; and returns
        how many such things there are (B * K, 1, d), for the first word of the answer."""
        if self.glimpse is None:
            return torch.zeros((), device=text_ids.device)
        place = sight.look_logits[:, :, :, :self.config.grid**2].argmax(-1)
        points = self.look.point(sight.patches, sight.query, place)[:, :, :len(NAMED)].detach() / self.config.image_size
        keys = F.normalize(self.look.patch_key(sight.patches), dim=-1)
        tokens = self.glimpse(sight.patches, keys, sight.look_logits, sight.mark_logits, points).flatten(0, 1)
        mask = self._after(len(tokens), self.glimpses, (text_ids != vocab.PAD).flatten(0, 1), memory)
        first = self.config.image_tokens + self.config.text_length + self.seek
        self._run(tokens, mask, memory, torch.arange(first, first + self.glimpses, device=tokens.device))
        return self.glimpse.counted(sight.look_logits).flatten(0, 1)[:, None]

    def _reply(self, answer_ids: Tensor, text_mask: Tensor, memory: DynamicCache, place: int,
               counted: Tensor) -> Tensor:
        """answer_ids (N, A) after `place` words of the answer -> hidden (N, A, d); counted: see _glimpse."""
        n, count = answer_ids.shape
        seen = self._after(n, count, text_mask, memory)
        seen[:, :, -count:] = seen[:, :, -count:].tril()
        places = torch.arange(place, place + count, device=answer_ids.device)
        first = self.config.image_tokens + self.config.text_length + self.seek + self.glimpses
        hidden = self._run(self.language.embed_tokens(answer_ids), seen, memory, first + places)
        return hidden + (places == 0)[:, None] * counted

    def _after(self, n: int, count: int, text_mask: Tensor, memory: DynamicCache) -> Tensor:
        """bool (N, count, before + count): what tokens after a text see, that is everything but its padding."""
        seen = torch.ones(n, count, memory.get_seq_length() + count, dtype=torch.bool, device=text_mask.device)
        first = self.config.image_tokens
        seen[:, :, first:first + text_mask.shape[1]] = text_mask[:, None]
        return seen

    # --- the language model ------------------------------------------------------------------------------------

    def _with_seek(self, text_ids: Tensor) -> Tensor:
        """text_ids (N, L) -> embedded text and seek tokens (N, L + S, d)."""
        return torch.cat([self.language.embed_tokens(text_ids), self.seek_queries.expand(len(text_ids), -1, -1)], 1)

    def _reading_mask(self, text_mask: Tensor, image_tokens: int | None = None) -> Tensor:
        """text_mask (N, L) -> bool (N, L + S, I + L + S): which token of text and seek sees which."""
        (n, length), i = text_mask.shape, self.config.image_tokens if image_tokens is None else image_tokens
        seen = torch.ones(length + self.seek, i + length + self.seek, dtype=torch.bool, device=text_mask.device)
        seen[:length, :i] = False
        seen[:length, i:] = seen[:length, i:].tril()
        out = seen.expand(n, -1, -1).clone()
        out[:, :, i:i + length] &= text_mask[:, None]
        out[:, -1, :i], out[:, -1, i + length:-1] = False, False  # the intent is in the words alone
        return out

    def _positions(self, length: int, after: int) -> Tensor:
        """Positions of `length` text tokens, and of the tokens after the longest text: padding moves nothing."""
        i, device = self.config.image_tokens, self.device
        later = torch.arange(i + self.config.text_length, i + self.config.text_length + after, device=device)
        return torch.cat([torch.arange(i, i + length, device=device), later])

    def _run(self, tokens: Tensor, mask: Tensor, memory: DynamicCache, positions: Tensor) -> Tensor:
        """tokens (N, T, d) at positions (T,) after what `memory` holds; mask bool (N, T, before + T): what is seen."""
        mask = mask[:, :, :memory.get_seq_length() + tokens.shape[1]]
        added = torch.zeros(mask.shape, dtype=tokens.dtype, device=tokens.device).masked_fill(~mask, -1e4)[:, None]
        return self.language(inputs_embeds=tokens, attention_mask=added, position_ids=positions[None],
                             past_key_values=memory, use_cache=True).last_hidden_state
