"""What is shared changes nothing: losses, gradients and completions are those of TRL and transformers."""

from collections import Counter

import pytest
import shop
import torch
from datasets import Dataset
from transformers import MistralConfig, MistralForCausalLM
from trl import GRPOTrainer

from gr2.errors import UserError
from gr2.lm.attend import can_attend, forward
from gr2.lm.batches import pad_left, pad_right
from gr2.rl.dapo import DapoTrainer
from gr2.rl.draft import answer_draft
from gr2.rl.sample import Draft, draw, sample
from gr2.rl.shared_prefix import Pack, completion_log_probs
from gr2.stages.s08_rl import Config, trl_config
from gr2.types import Split

LONGEST, GROUP = 9, 3
PROMPTS = [[40, 41, 42, 43], [50, 51]]
COMPLETIONS = [[60, 61, 62], [60], [60, 61, 62], [66, 67, 68, 69, 70], [60, 61, 63, 64], [66, 67, 71, 72]]
"""Some begin alike, with the same prompt and with another; two are the same, and one is of one token."""


def trainer(kind, folder):
    checkpoint = shop.checkpoint()
    config = Config(steps=1, prompts=2, rollouts=GROUP, temperature=0.7)
    return kind(
        model=checkpoint.model,
        processing_class=checkpoint.tokenizer,
        reward_funcs=[lambda completion_ids, **_: [0.0] * len(completion_ids)],
        train_dataset=Dataset.from_list([{"prompt": "<think>"}] * 4),
        args=trl_config(config, 0, LONGEST, folder),
    )


def batch(pad):
    """Six rollouts of two prompts, not next to each other; the fourth was cut off, so it is masked. They are off
    policy, so that the loss depends on the log-probabilities, and some ratios are clipped."""
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    prompts, seen = pad_left([p for p in PROMPTS for _ in range(GROUP)], pad)
    completions = pad_right(COMPLETIONS, pad)
    mask = pad_right([[1] * len(c) if i != 3 else [0] * len(c) for i, c in enumerate(COMPLETIONS)], 0)
    rows = {"prompt_ids": prompts, "prompt_mask": seen, "completion_ids": completions, "completion_mask": mask}
    rows["advantages"] = torch.tensor([1.0, -0.5, -0.5, 2.0, -1.0, 0.3])
    rows["old_per_token_logps"] = torch.linspace(-6.5, -5.0, completions.numel()).view_as(completions)
    return {k: v[order] for k, v in rows.items()} | {"num_items_in_batch": mask.sum()}


def test_loss_and_gradient_are_trls(tmp_path):
    found = []
    for kind in (GRPOTrainer, DapoTrainer):
        one = trainer(kind, tmp_path)
        one.current_gradient_accumulation_steps = 1
        one.model.train()
        loss = one._compute_loss(one.model, batch(one.processing_class.pad_token_id))
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in one.model.parameters()])
        found.append((loss.item(), gradient, one._metrics["train"]["entropy"][0]))
    (theirs, their_gradient, their_entropy), (ours, our_gradient, our_entropy) = found
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert our_entropy == pytest.approx(their_entropy, abs=1e-5)
    assert (our_gradient - their_gradient).abs().max() < 1e-5
    assert their_gradient.abs().max() > 1e-2


def qwen():
    checkpoint = shop.checkpoint()
    return checkpoint.model, checkpoint.tokenizer.pad_token_id


def grouped(**settings):
    """Two query heads a key head."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return MistralForCausalLM(MistralConfig(**sizes, **heads, **settings)).eval()


MODELS = {"qwen": qwen, "grouped heads": lambda: (grouped(sliding_window=None), 0)}


@pytest.mark.parametrize("kind", MODELS)
def test_log_probabilities_are_those_of_rows_read_alone(kind):
    """Uneven groups in no order, one prompt with no rollout of its own left, a rollout of one token."""
    model, pad = MODELS[kind]()
    prompts, seen = pad_left([*PROMPTS, [44]], pad)
    of = torch.tensor([1, 0, 1, 1, 0, 1])
    completions, mask = pad_right(COMPLETIONS, pad), pad_right([[1] * len(c) for c in COMPLETIONS], 0)
    mask[3] = 0
    logps, entropies = completion_log_probs(model, prompts, of, completions, mask, pad=pad, temperature=0.7)
    for i, written in enumerate(COMPLETIONS):
        expected = torch.zeros(2, completions.shape[1])
        if mask[i].any():
            prompt = prompts[of[i]][seen[of[i]].bool()].tolist()
            expected[:, : len(written)] = read_alone(model, prompt, written, temperature=0.7)
        torch.testing.assert_close(torch.stack([logps[i], entropies[i]]), expected, atol=1e-5, rtol=0)


def test_what_completions_begin_with_is_read_once():
    """By prompt 0: 60 61 63; by prompt 1: 60 61 62, 66 67 68 69, 66 67 71, of each all but its last token."""
    prompts = torch.tensor([[40, 41], [50, 51]]) > 0
    of = torch.tensor([1, 0, 1, 1, 0, 1])
    tokens = pad_right(COMPLETIONS, 0)
    pack = Pack(prompts, of, tokens[:, :-1], tokens[:, 1:] > 0)
    assert pack.written_N.tolist() == [60, 61, 63, 60, 61, 66, 67, 68, 69, 71]
    assert pack.positions_N.tolist() == [0, 1, 0, 1, 2, 3, 4, 2, 3, 2, 3, 4, 5, 4]
    assert len(pack.places_K) == 12
    before_BC = [row[: len(written)] for row, written in zip(pack.before_BC.tolist(), COMPLETIONS, strict=True)]
    assert before_BC == [[1, 5, 6], [0], [1, 5, 6], [1, 7, 8, 9, 10], [0, 2, 3, 4], [1, 7, 8, 11]]


def read_alone(model, prompt, written, temperature):
    """Log-probabilities and entropies from a row of its own."""
    logits = model(input_ids=torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1] / temperature
    logps = logits.log_softmax(-1)
    return torch.stack([logps[torch.arange(len(written)), written], -(logps.exp() * logps).sum(-1)])


def test_every_prompts_items_are_read_with_their_own_vectors():
    """Behind the first prompt's <think> stand other prompts in the row, and what is written is read by its codes."""
    checkpoint = shop.checkpoint_with_head()
    pad, slates = checkpoint.tokenizer.pad_token_id, shop.slates(3, Split.TEST)
    texts = [checkpoint.renderer.prompt(s, think=True) for s in slates]
    rows = checkpoint.tokenizer(texts, add_special_tokens=False)["input_ids"]
    ids = checkpoint.id_tokens.of([slates[0].candidates[0], slates[1].candidates[2]]).tolist()
    written = [[60, *ids[0], 61], [*ids[1], *ids[0]], [62, *ids[1]]]
    mask = pad_right([[1] * len(w) for w in written], 0)
    prompts, _ = pad_left(rows, pad)
    keys = {"pad": pad, "temperature": 1.0}
    logps, _ = completion_log_probs(checkpoint.model, prompts, torch.arange(3), pad_right(written, pad), mask, **keys)
    for row, w, found in zip(rows, written, logps, strict=True):
        expected = read_alone(checkpoint.model, row, w, temperature=1.0)[0]
        torch.testing.assert_close(found[: len(w)], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("completions", "mask"), [([[60, 61], [62, 63]], 0), ([[60], [62]], 1)])
def test_a_batch_of_which_no_written_token_is_read(completions, mask):
    """All were cut off, or all end at once."""
    model, pad = qwen()
    prompts, _ = pad_left(PROMPTS, pad)
    written = torch.tensor(completions)
    keys = {"pad": pad, "temperature": 1.0}
    logps, _ = completion_log_probs(model, prompts, torch.arange(2), written, torch.full_like(written, mask), **keys)
    logps.sum().backward()
    alone = [
        model(input_ids=torch.tensor([p])).logits[0, -1].log_softmax(-1)[w[0]]
        for p, w in zip(PROMPTS, completions, strict=True)
    ]
    assert logps[:, 0].tolist() == pytest.approx([mask * x.item() for x in alone], abs=1e-5)
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", MODELS)
def test_the_likeliest_completions_are_those_of_transformers(kind):
    """At almost no temperature every rollout is greedy; prompts of two lengths, some rows ending early."""
    model, pad = MODELS[kind]()
    rows = [PROMPTS[0], PROMPTS[1], [44]]
    ids, seen = pad_left(rows, pad)
    settings = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": pad}
    free = model.generate(input_ids=ids, attention_mask=seen, eos_token_id=-1, **settings)
    stops = [free[0, ids.shape[1] + 3].item(), free[1, ids.shape[1] + 35].item()]
    greedy = model.generate(input_ids=ids, attention_mask=seen, eos_token_id=stops, **settings)
    written = sample(model, rows, 2, longest=40, temperature=1e-4, stops=stops, pad=pad)
    assert len(written) == 6
    for i, row in enumerate(written):
        expected = greedy[i // 2, ids.shape[1] :].tolist()
        assert row == expected[: len(row)]
        assert len(row) == 40 or row[-1] in stops
        assert not set(row[:-1]) & set(stops)


def right(free, cue):
    """What follows the cue, and goes on for ever."""
    return lambda prompt, written: [*free[tuple(prompt)][len(written) :], *[7] * 99]


def wrong_from_the_third(free, cue):
    return lambda prompt, written: [*free[tuple(prompt)][len(written) :][:2], cue, 7, 7]


GUESSES = {
    "right": right,
    "wrong from the third": wrong_from_the_third,
    "wrong": lambda free, cue: lambda prompt, written: [cue, cue],
    "none": lambda free, cue: lambda prompt, written: [],
}


ROWS = [*PROMPTS, [44], [45, 46]]
KEYS = {"longest": 40, "temperature": 1e-4, "pad": 0}


def lively():
    """A model that does not repeat itself, what it writes alone, and a token that three of these rows come to."""
    model = grouped(sliding_window=None, initializer_range=0.3)
    free = {tuple(row): sample(model, [row], 1, stops=[-1], **KEYS)[0] for row in ROWS}
    cue = 80
    assert [row.index(cue) if cue in row else None for row in free.values()] == [None, 25, 3, 21]
    return model, free, cue


@pytest.mark.parametrize("guess", GUESSES)
def test_a_draft_changes_nothing_of_the_likeliest_completions(guess):
    """Rows come to the cue at different times, one never, one at its last token, and one ends within its guess."""
    model, free, cue = lively()
    keys = {**KEYS, "longest": 25 + 1, "stops": [free[44,][3 + 3]]}
    plain = sample(model, ROWS, 2, **keys)
    assert [len(row) for row in plain[::2]] == [26, 26, 7, 26]
    draft = Draft(cue, GUESSES[guess](free, cue))
    assert sample(model, ROWS, 2, draft=draft, **keys) == plain


def test_what_is_guessed_is_read_in_one_pass(monkeypatch):
    """One for the prompt, one for each token before the cue, and one for the other 36; or for three of them, where the
    third is wrong, and one for each but the last from there."""
    model, free, cue = lively()
    passes: list[int] = []
    monkeypatch.setattr("gr2.rl.sample.forward", lambda *a, **k: passes.append(1) or forward(*a, **k))
    for guess, behind_cue in ((right, 1), (wrong_from_the_third, 1 + 36 - 3)):
        passes.clear()
        sample(model, [[44]], 2, stops=[-1], draft=Draft(cue, guess(free, cue)), **KEYS)
        assert len(passes) == 1 + 3 + behind_cue


@pytest.mark.parametrize("guess", [None, [21, 70, 71], [20]])
def test_every_rollout_is_drawn_from_the_models_own_chances(monkeypatch, guess):
    """Rows end at different times and are moved, some wait for others: what is drawn from at each token is still the
    model's softmax."""
    model, pad = qwen()
    stops, cues = list(range(20, 60)), range(60, 300)
    drawn_from: list[torch.Tensor] = []
    monkeypatch.setattr("gr2.rl.sample.draw", lambda x, t: drawn_from.append(x.clone()) or draw(x, t))
    torch.manual_seed(0)
    keys = {"longest": 20, "temperature": 1.0, "stops": stops, "pad": pad}
    first = sample(model, PROMPTS, 8, **keys)
    cue = Counter(token for row in first for token in row[:-1] if token in cues).most_common(1)[0][0]
    drawn_from.clear()
    torch.manual_seed(0)
    draft = None if guess is None else Draft(cue, lambda prompt, written: guess)
    written = sample(model, PROMPTS, 8, draft=draft, **keys)
    assert len({len(row) for row in written}) > 4
    assert any(cue in row[:-1] for row in written)
    drawn_from_NV = torch.cat(drawn_from)
    for i, row in enumerate(written):
        prompt = PROMPTS[i // 8]
        logits = model(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) - 1 : -1]
        for at, expected in enumerate(logits):
            drawn_at = drawn_from[at] if guess is None else drawn_from_NV
            assert (drawn_at - expected).abs().amax(-1).min() < 1e-5


@pytest.mark.parametrize("place", [0, 1, -1])
def test_chances_behind_the_cue_are_the_models(place):
    """The cue comes first; what is guessed behind it is the likeliest token, the next, and the least likely."""
    model, *_ = lively()
    sharp = {"temperature": 0.2, "longest": 2, "stops": [-1], "pad": 0}
    cue = int(model(input_ids=torch.tensor([[44]])).logits[0, -1].argmax())
    chances = (model(input_ids=torch.tensor([[44, cue]])).logits[0, -1] / 0.2).softmax(-1)
    by_chance = chances.argsort(descending=True)
    draft = Draft(cue, lambda prompt, written: [int(by_chance[place])])
    torch.manual_seed(0)
    behind = [row[1] for row in sample(model, [[44]], 8_000, draft=draft, **sharp) if row[0] == cue]
    assert len(behind) > 4_000
    for token in by_chance[:3].tolist():
        chance = chances[token].item()
        four_errors = 4 * (chance * (1 - chance) / len(behind)) ** 0.5
        assert behind.count(token) / len(behind) == pytest.approx(chance, abs=four_errors)
        assert chance > 0.03


def test_an_answer_is_guessed_from_the_prompts_last_order():
    checkpoint = shop.checkpoint()
    tokenizer = checkpoint.tokenizer
    draft = answer_draft(tokenizer)
    assert tokenizer.decode(draft.cue) == "</think>"

    def guessed(prompt, thought):
        return tokenizer.decode(draft.guess(*tokenizer([prompt, thought], add_special_tokens=False)["input_ids"]))

    listed = "<|candidates|><c_1><c_2><c_3>"
    assert guessed(f"{listed}<|advice|><c_3><c_1><c_2><think>", "<c_3> <c_1></think>") == "<c_1><c_3><c_2><|end|>"
    assert guessed(f"{listed}<think>", "<c_3></think>") == "<c_3><c_1><c_2><|end|>"
    assert guessed(f"{listed}<think>", "<c_4></think>") == "<c_1><c_2><c_3><|end|>"


def test_an_id_that_is_guessed_is_read_by_its_codes(monkeypatch):
    """As it is where it is written token by token: an item's vector stands in prompts only."""
    checkpoint = shop.checkpoint_with_head()
    slate = shop.slates(1, Split.TEST)[0]
    asked = checkpoint.tokenizer(checkpoint.renderer.prompt(slate, think=True), add_special_tokens=False)["input_ids"]
    prompt = [*asked, 61]
    keys = {"longest": 8, "temperature": 1e-4, "stops": [-1], "pad": checkpoint.tokenizer.pad_token_id}
    cue = sample(checkpoint.model, [prompt], 1, **keys)[0][0]
    assert cue != asked[-1]  # behind a <think> of its own nothing would be read as an item
    guess = [*checkpoint.id_tokens.of([slate.candidates[0]]).tolist()[0], 60]
    drawn_from: list[torch.Tensor] = []
    monkeypatch.setattr("gr2.rl.sample.draw", lambda x, t: drawn_from.append(x.clone()) or draw(x, t))
    sample(checkpoint.model, [prompt], 2, draft=Draft(cue, lambda p, w: guess), **keys)
    read = torch.tensor([[*prompt, cue, *guess]])
    expected = checkpoint.model(input_ids=read).logits[0, len(prompt) :]
    at_once = next(x for x in drawn_from if len(x) == 2 * (1 + len(guess)))
    torch.testing.assert_close(at_once.view(2, 1 + len(guess), -1)[0], expected, atol=1e-5, rtol=0)


def test_models_with_another_attention_are_refused():
    assert can_attend(qwen()[0])
    assert can_attend(grouped(sliding_window=None))
    windowed = grouped(sliding_window=2)
    assert not can_attend(windowed)
    assert not can_attend(grouped(sliding_window=None, attention_dropout=0.1))
    with pytest.raises(UserError, match="window"):
        sample(windowed, PROMPTS, 2, longest=4, temperature=1.0, stops=[1], pad=0)
    assert windowed.config._attn_implementation != "gr2"


def test_draws_follow_the_probabilities():
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]]).expand(20_000, 4)
    drawn = Counter(draw(logits, temperature=2.0).tolist())
    wanted = (logits[0] / 2).softmax(-1)
    assert [drawn[i] / 20_000 for i in range(4)] == pytest.approx(wanted.tolist(), abs=0.015)
    assert drawn[2] == 0
