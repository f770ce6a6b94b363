"""The native model: its passes agree, its parts see only what they should, and its files are checked."""

import json
import shutil
from functools import partial

import pytest
import torch
from model_samples import MODEL, TOKENIZER, WORDS, tiny

from vla_ros.errors import CheckpointError
from vla_ros.model import vocabulary as vocab
from vla_ros.model.files import open_checkpoint, save_checkpoint
from vla_ros.model.look import RELATIONS, coordinates, ways

TEXTS = ("touch the red cube", "put the blue ball to the left of the tray, please")
IMAGE, SEEK = MODEL.config.image_tokens, MODEL.seek
PLAIN = tiny(spatial=False)  # without looks for landmarks, places and glimpses


def ids(*texts: str) -> torch.Tensor:
    """(K, L) as long as the longest."""
    rows = [torch.tensor([vocab.BOS, *WORDS.ids(text)]) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=vocab.PAD)


def inputs(b=2, texts=TEXTS):
    """pixels (b, 3, H, W), text (b, K, L), proprio (b, 4), look (b, K, 6), all different."""
    g = torch.Generator().manual_seed(1)
    pixels = torch.rand(b, 3, 128, 128, generator=g) * 2 - 1
    look = torch.randint(vocab.LOOK_BINS, (b, len(texts), 6), generator=g)
    look = look + torch.tensor([vocab.LOOK_X, vocab.LOOK_Y] * 3)
    return pixels, ids(*texts).expand(b, -1, -1), torch.rand(b, 4, generator=g), look


def alike(a, b) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_inference_in_two_parts_is_the_training_pass_token_by_token():
    pixels, text, proprio, look = inputs()
    sight, actions = MODEL(pixels, text, proprio, look)
    for i in range(2):
        for k in range(2):
            alone = ids(TEXTS[k])  # without the padding that the longer text brings
            seen, _ = MODEL.see(pixels[i:i + 1], alone[None])
            acted = MODEL.act(seen.intent[0], look[i, k][None], proprio[i:i + 1])[0]
            for name in ("look_logits", "mark_logits", "query", "verdict", "intent"):
                assert alike(getattr(seen, name)[0, 0], getattr(sight, name)[i, k])
            assert alike(acted, actions[i, k]) and acted.shape == (32, vocab.ACTION_BINS)
            assert acted.argmax(-1).tolist() == actions[i, k].argmax(-1).tolist()


@torch.no_grad()
def test_instructions_on_one_image_do_not_see_each_other():
    pixels, text, proprio, look = inputs()
    other = text.clone()
    other[:, 1] = ids("stop", *TEXTS)[0]
    (sight, actions), (changed, acted) = MODEL(pixels, text, proprio, look), MODEL(pixels, other, proprio, look)
    assert torch.equal(actions[:, 0], acted[:, 0]) and torch.equal(sight.verdict[:, 0], changed.verdict[:, 0])
    assert not alike(actions[:, 1], acted[:, 1]) and not alike(sight.verdict[:, 1], changed.verdict[:, 1])


@torch.no_grad()
def test_what_stands_for_padding_does_not_matter():
    model = tiny()
    before = model(*inputs()), model.answer_logits(*questions())
    model.language.embed_tokens.weight[vocab.PAD] += 5.0
    after = model(*inputs()), model.answer_logits(*questions())
    assert alike(before[0][1], after[0][1]) and alike(before[0][0].look_logits, after[0][0].look_logits)
    words = questions()[2] != vocab.PAD
    assert alike(before[1][0][words][:, 1:], after[1][0][words][:, 1:]), "the score of <pad> itself aside"


@torch.no_grad()
def test_text_every_look_token_and_all_of_the_body_reach_all_actions_and_the_image_by_looks_alone():
    pixels, text, proprio, look = inputs(1)
    base = MODEL(pixels, text, proprio, look)[1]

    def moved(*changed) -> bool:
        return bool(((MODEL(*changed)[1] - base).abs().amax(-1) > 1e-4).all())

    assert torch.equal(MODEL(-pixels, text, proprio, look)[1], base) and moved(pixels, text.flip(1), proprio, look)
    for i in range(6):
        body, seen = proprio.clone(), look.clone()
        body[:, i % 4] += 0.3
        seen[..., i] = vocab.LOOK_X + (seen[..., i] + 80 - vocab.LOOK_X) % (2 * vocab.LOOK_BINS)
        assert moved(pixels, text, body, look), f"proprioception {i % 4}"
        assert moved(pixels, text, proprio, seen), f"look token {i}"


@torch.no_grad()
def test_text_does_not_see_the_image_but_seek_does():
    pixels, text, _, _ = inputs(1)
    memories = [MODEL.see(image, text)[1] for image in (pixels, -pixels)]
    a, b = (memory.layers[-1].keys for memory in memories)  # of the last layer: made of what all before it saw
    length = text.shape[-1]
    assert a.shape[2] == IMAGE + length + SEEK
    assert torch.equal(a[:, :, IMAGE:IMAGE + length], b[:, :, IMAGE:IMAGE + length])
    assert not alike(a[:, :, :IMAGE], b[:, :, :IMAGE])
    for i in range(SEEK - 1):
        assert not alike(a[:, :, IMAGE + length + i], b[:, :, IMAGE + length + i])
    assert torch.equal(a[:, :, -1], b[:, :, -1]), "the intent is in the words alone"


@torch.no_grad()
def test_text_sees_only_the_text_before_it():
    pixels, text, _, _ = inputs(1, TEXTS[1:])
    other = text.clone()
    other[..., 5] = text[..., 1]
    a, b = (MODEL.see(pixels, t)[1].layers[-1].keys[:, :, IMAGE:] for t in (text, other))
    assert torch.equal(a[:, :, :5], b[:, :, :5])
    assert not alike(a[:, :, 6], b[:, :, 6])


@torch.no_grad()
def test_an_image_token_is_made_of_its_own_block_of_patches():
    c, patches = MODEL.config, torch.rand(1, 256, MODEL.config.vision_width)
    other = patches.clone()
    other[0, 5 * c.grid + 8] += 1.0  # row 5, column 8
    changed = (MODEL.projector(patches) != MODEL.projector(other)).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [2 * (c.grid // 2) + 4]


@torch.no_grad()
def test_the_intent_of_words_alone_is_that_beside_any_image():
    pixels, text, _, _ = inputs()
    assert alike(MODEL.see(pixels, text)[0].intent, MODEL.intend(text[0]).expand(2, -1, -1))
    assert alike(MODEL.intend(text[0])[:1], MODEL.intend(ids(TEXTS[0]))), "without the padding of the longer text"
    assert not alike(*MODEL.intend(text[0]))


@torch.no_grad()
def test_the_intent_holds_what_the_words_look_for_as_target_and_reference():
    text, width = inputs()[1][0], MODEL.config.width
    named = MODEL.intend(text)[:, width:].unflatten(-1, (2, -1))
    assert alike(named, MODEL.name(text)[:, :2] * named.shape[-1]**0.5)
    assert PLAIN.intend(text).shape[-1] == width == MODEL.config.intent_width - named[0].numel()


@torch.no_grad()
def test_looks_at_nothing_tell_the_actions_nothing_of_where():
    _, text, proprio, look = inputs()
    intent, base = MODEL.intend(text[:, 0]), MODEL.expert.features(look[:, 0], proprio)
    for i in range(6):
        absent, nowhere = look[:, 0].clone(), look[:, 0].clone()
        absent[:, i], nowhere[:, i] = vocab.ABSENT, vocab.NOWHERE
        assert torch.equal(MODEL.act(intent, absent, proprio), MODEL.act(intent, nowhere, proprio))
        assert not alike(MODEL.expert.features(absent, proprio), base)


@torch.no_grad()
@pytest.mark.parametrize("model", [MODEL, PLAIN])
def test_words_alone_are_read_as_beside_an_image(model, monkeypatch):
    asked, ask = [], model.look.ask
    monkeypatch.setattr(model.look, "ask", lambda *given: asked.append(ask(*given)) or asked[-1])
    pixels, text, _, _ = inputs(1)
    model.see(pixels, text)
    named = model.name(text[0])
    assert alike(asked[0], asked[1]) and torch.allclose(named.norm(dim=-1), torch.ones(named.shape[:2]))
    assert alike(named[0], model.name(ids(TEXTS[0]))[0]), "without the padding that the longer text brings"


@torch.no_grad()
def test_a_word_asks_for_the_same_beside_any_other():
    """The other words have it heeded more or less, and change nothing of what it asks for."""
    look, (embedded, hidden) = MODEL.look, torch.randn(2, 1, 5, 32)
    mask = torch.tensor([[True, True, True, False, False]])
    alone = torch.stack([look.ask(embedded[:, i:i + 1], hidden[:, :1], mask[:, :1])[0] for i in range(3)])  # (3, S, w)
    heed = look.heed(hidden[0, :3]).softmax(0)
    assert torch.allclose(look.ask(embedded, hidden, mask)[0], torch.einsum("ls,lsw->sw", heed, alone), atol=1e-5)
    assert not torch.allclose(look.ask(embedded, -hidden, mask), look.ask(embedded, hidden, mask), atol=1e-3)


# --- look ---------------------------------------------------------------------------------------------------------


def test_look_tokens_are_half_pixels_and_places_that_are_no_patch_have_their_own():
    pixels = torch.tensor([[0.0, 0.0], [63.9, 127.9], [-3.0, 200.0], [64.0, 64.0], [64.0, 64.0]])
    made = MODEL.look.tokens(pixels, torch.tensor([0, 255, 7, 256, 257])).tolist()
    x, y = vocab.LOOK_X, vocab.LOOK_Y
    assert made == [[x, y], [x + 127, y + 255], [x, y + 255], [vocab.ABSENT] * 2, [vocab.NOWHERE] * 2]


@torch.no_grad()
def test_a_shape_is_told_by_its_patch_and_tells_the_expert():
    model, (pixels, text, _, _) = tiny(shapes=6), inputs()
    patches = model.see(pixels, text)[0].patches
    seen = model.look.shapes(patches, torch.tensor([[[3, 200]], [[7, 7]]]))
    assert seen.shape == (2, 1, 2, 6) and alike(seen[0, 0, 1], model.look.shape(patches[0, 200]))
    intent, look = torch.randn(3, model.config.intent_width), torch.full((3, 6), vocab.NOWHERE)
    shapes = torch.tensor([[0, 6], [6, 0], [6, 6]])
    made = model.act(intent[:1].expand(3, -1), look, torch.zeros(3, 4), shapes)
    assert not alike(made[0], made[1]) and not alike(made[0], made[2]), "a target's is not a reference's"
    assert alike(made[2], model.act(intent[:1], look[:1], torch.zeros(1, 4))[0]), "not known is none"


@torch.no_grad()
def test_a_look_ends_where_the_key_fits_the_query_best_and_points_into_that_patch():
    pixels, text, _, _ = inputs()
    sight, _ = PLAIN.see(pixels, text)
    look = PLAIN.look
    keys = torch.nn.functional.normalize(look.patch_key(sight.patches), dim=-1)
    best = torch.einsum("bklw,bpw->bklp", sight.query, keys).argmax(-1)
    assert torch.equal(sight.look_logits[..., :256].argmax(-1), best)
    point = look.point(sight.patches, sight.query, best)
    centre = (torch.stack([best % 16, best // 16], -1) + 0.5) * 8
    chosen = sight.patches[1, best[1, 0, 1]]
    offset = look.offset(torch.cat([chosen, sight.query[1, 0, 1]]))
    assert alike(point[1, 0, 1], centre[1, 0, 1] + 8 * offset)


@torch.no_grad()
def test_one_model_in_one_look_scores_what_where_and_beside_what():
    model = tiny()
    look, (pixels, text, _, _) = model.look, inputs()
    base, _ = model.see(pixels, text)
    for part in (look.standing.weight, look.standing.bias):
        part.zero_()
    plain, _ = model.see(pixels, text)
    assert not alike(plain.look_logits[:, :, :2], base.look_logits[:, :, :2])
    assert torch.equal(plain.look_logits[:, :, 2], base.look_logits[:, :, 2]), "the hand is not told by its place"
    assert torch.equal(plain.mark_logits, base.mark_logits), "nor are landmarks"
    look.standing.bias[0] = -9.0  # leftmost in the image, whatever it is
    left = model.see(pixels, text)[0].look_logits[:, :, :2, :256].argmax(-1)
    assert (left % 16 < 2).all()
    assert torch.equal(model.see(pixels, text)[0].look_logits[..., 256:], plain.look_logits[..., 256:])


@torch.no_grad()
def test_a_relation_is_to_where_the_landmark_is():
    """A relation that fits what is right of a landmark, and none that is told by its place alone."""
    model = tiny()
    look, shape = model.look, (1, 1, 2)
    for part in look.standing.parameters():
        part.zero_()
    look.standing.bias[len(coordinates(16)[0])] = 1.0
    first, last = look.relation[0], look.relation[2]
    for part in look.relation.parameters():
        part.zero_()
    first.weight[0, 2], last.weight[0, 0] = -3.0, 3.0  # from the patch to its landmark it goes to the left
    text, seek = torch.zeros(1, 1, 32), torch.zeros(*shape, 32)
    for column in (3, 9):
        marks = torch.zeros(*shape, 256)
        marks[..., 7 * 16 + column] = 1.0
        fits = look._standing(text, seek, marks).view(*shape, 16, 16)
        right, others = fits[..., column + 1:], fits[..., :column + 1]
        assert right.min() > others.max() + 9.0
    assert torch.equal(look._standing(text, seek, torch.zeros(*shape, 256)).abs(), torch.zeros(*shape, 256))
    assert RELATIONS == last.out_features


def test_coordinates_are_of_the_patches_middles():
    places = coordinates(16).view(16, 16, -1)
    assert places[0, 0, :2].tolist() == [-7.5, -7.5] and places[3, 15, :2].tolist() == [7.5, -4.5]


def test_every_way_between_two_patches_is_among_the_ways():
    offsets, index = ways(16)
    places = coordinates(16)[:, :2]
    assert offsets.shape == (31**2, 2) and torch.equal(offsets[index], places[:, None] - places)


def test_a_model_without_names_by_place_has_none_of_their_weights():
    names = set(dict(MODEL.named_parameters())) - set(dict(PLAIN.named_parameters()))
    parts = "look.standing", "look.relation", "look.heed", "look.word_query", "glimpse"
    assert names and all(name.startswith(parts) for name in names)
    pixels, text, _, _ = inputs()
    assert PLAIN.see(pixels, text)[0].mark_logits.shape == (2, 2, 0, 258)


# --- answers ------------------------------------------------------------------------------------------------------


def questions(texts=("what is left of the red cube?", "how many balls are there?")):
    """Two questions on each of two images, with answers of different lengths."""
    pixels, text, _, _ = inputs(2, texts)
    answers = [[vocab.ANSWER, *WORDS.ids("blue ball"), vocab.END], [vocab.ANSWER, *WORDS.ids("two"), vocab.END]]
    rows = [torch.tensor(answer) for answer in answers]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=vocab.PAD)
    return pixels, text, padded.expand(2, -1, -1)


def greedy(model, pixels, text) -> tuple[list[int], float]:
    """As reply(), but every word from the whole input anew."""
    said, probability = [vocab.ANSWER], 1.0
    for _ in range(model.config.answer_length):
        odds = model.answer_logits(pixels, text[None], torch.tensor([[said]]))[0][0, 0, -1].softmax(-1)
        probability *= float(odds.max())
        if int(odds.argmax()) == vocab.END:
            break
        said.append(int(odds.argmax()))
    return said[1:], probability


def same(a, b) -> bool:
    return a[0] == b[0] and a[1] == pytest.approx(b[1], rel=1e-3)


@torch.no_grad()
def test_a_reply_with_memory_is_greedy_decoding_from_scratch():
    pixels, text, _ = questions()
    replies = [MODEL.reply(image[None], t[None]) for image in pixels for t in text[0]]
    assert all(same(reply, greedy(MODEL, image[None], t[None])) for reply, (image, t) in
               zip(replies, [(image, t) for image in pixels for t in text[0]], strict=True))
    assert len({probability for _, probability in replies}) == 4, "image and question reach the answer"
    assert all(len(said) == MODEL.config.answer_length for said, _ in replies), "nothing made these end"


@torch.no_grad()
def test_a_reply_ends_with_end():
    model = tiny()
    pixels, text, _ = questions()
    said, _ = model.reply(pixels[:1], text[0, :1])
    table, last = model.language.embed_tokens.weight, said[-1]
    table[[last, vocab.END]] = table[[vocab.END, last]]  # what was said last now means the end
    reply = model.reply(pixels[:1], text[0, :1])
    assert reply[0] == said[:said.index(last)] and same(reply, greedy(model, pixels[:1], text[0, :1]))


@torch.no_grad()
def test_words_of_an_answer_see_only_those_before_them_and_questions_not_each_other():
    pixels, text, answer = questions()
    base = MODEL.answer_logits(pixels, text, answer)[0]
    other = answer.clone()
    other[:, :, 2] = vocab.WORDS + 7
    changed = MODEL.answer_logits(pixels, text, other)[0]
    assert torch.equal(base[:, :, :2], changed[:, :, :2]) and not alike(base[:, :, 2], changed[:, :, 2])
    alone = MODEL.answer_logits(pixels[1:], ids("how many balls are there?")[None], answer[1:, 1:])[0]
    assert alike(base[1, 1], alone[0, 0])


@torch.no_grad()
def test_an_answer_sees_where_the_question_made_the_model_look():
    pixels, text, answer = questions()
    model = tiny()
    base, sight = model.answer_logits(pixels, text, answer)
    seen = model.see(pixels, text)[0]
    assert alike(sight.look_logits, seen.look_logits) and alike(sight.mark_logits, seen.mark_logits)
    looks, marks, points = sight.look_logits, sight.mark_logits, torch.rand(2, 2, 2, 2)
    keys = torch.randn(*sight.patches.shape[:2], model.config.look_width)
    glimpse = partial(model.glimpse, sight.patches, keys)
    glimpses = glimpse(looks, marks, points)
    assert glimpses.shape == (2, 2, model.glimpses, 32)
    for look in range(2):
        other, moved = looks.clone(), marks.clone()
        other[:, :, look] = looks[:, :, look].roll(7, -1)
        moved[:, :, look] = marks[:, :, look].roll(7, -1)
        shifted = points.clone()
        shifted[:, :, look] += 0.01
        changed = [(glimpse(*given) - glimpses).abs().amax((0, 1, 3)) > 1e-4
                   for given in ((other, marks, points), (looks, moved, points), (looks, marks, shifted))]
        assert changed[0].nonzero().flatten().tolist() == ([0, 4] if look == 0 else [1]), "the last is of the target"
        assert changed[1].nonzero().flatten().tolist() == [2 + look]
        assert changed[2].nonzero().flatten().tolist() == [look], "a hundredth of the image's side"
    assert not alike(model.glimpse(sight.patches, keys.roll(3, 1), looks, marks, points)[:, :, :4], glimpses[:, :, :4])
    model.glimpse.kind += 3.0
    assert not alike(model.answer_logits(pixels, text, answer)[0], base)


@torch.no_grad()
def test_peaks_of_what_fits_are_counted_wherever_they_stand():
    model = tiny(peaks=4)
    grid, rng = model.config.grid, torch.Generator().manual_seed(0)
    for wanted in range(5):
        logits = -9 + torch.rand(1, 6, grid, grid, generator=rng)
        for row in range(6):
            for spot in torch.randperm((grid // 4) ** 2, generator=rng)[:wanted].tolist():
                y, x = 4 * (spot // (grid // 4)), 4 * (spot % (grid // 4))
                logits[0, row, y:y + 2, x:x + 2] = torch.tensor([[6.0, 5.5], [5.9, 4.0]])  # on a border of patches
        count = model.glimpse.count(torch.cat([logits.flatten(-2), torch.zeros(1, 6, 2)], -1))
        assert count.shape == (1, 6, 5) and torch.allclose(count.sum(-1), torch.ones(1, 6))
        assert (count[..., wanted] > 0.99).all()
    pixels, text, answer = questions()
    base = model.answer_logits(pixels, text, answer)[0]
    model.glimpse.number.bias += 3.0
    assert not alike(model.answer_logits(pixels, text, answer)[0], base)


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", MODEL, TOKENIZER)
    return tmp_path / "checkpoint"


@torch.no_grad()
def test_a_saved_checkpoint_answers_the_same(folder):
    model, tokenizer = open_checkpoint(folder)
    assert torch.equal(model(*inputs())[1], MODEL(*inputs())[1])
    assert torch.equal(model.answer_logits(*questions())[0], MODEL.answer_logits(*questions())[0])
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab() and not model.training
    assert vocab.Words(tokenizer, 40).encode("Touch it!") == WORDS.encode("touch it!")


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        open_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"\xff" * 16 + b[16:], lambda b: b""])
def test_damaged_weights(folder, damage):
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match="damaged"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_text(folder, name):
    (folder / name).write_text("{")
    with pytest.raises(CheckpointError, match=str(folder)):
        open_checkpoint(folder)


def test_weights_of_another_shape(folder, tmp_path):
    save_checkpoint(tmp_path / "other", tiny(width=48), TOKENIZER)
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match="does not fit"):
        open_checkpoint(folder)


def test_another_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="'llama'"):
        open_checkpoint(folder)
