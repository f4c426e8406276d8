"""The one-pass scores are the log-probabilities that plain teacher forcing gives."""

import pytest
import shop
import torch

from gr2.lm.batches import pad_right
from gr2.lm.checkpoint import assemble
from gr2.lm.generate import prompt_tokens
from gr2.lm.loss import weighted_next_token
from gr2.lm.nano import new_model, train_tokenizer
from gr2.lm.onepass import hidden_states, read_candidates, read_words, tree_batch
from gr2.lm.rank import rank_in_one_pass, scores_at_once, slate_tree
from gr2.lm.vocabulary import grow
from gr2.prompt.render import LABELS
from gr2.types import Split


def with_markers():
    shop_corpus, ids = shop.corpus(), shop.semantic_ids()
    tokenizer = train_tokenizer([i.text for i in shop_corpus.items], shop.NANO.words)
    grow(tokenizer, ids, markers=True)
    model = new_model(shop.NANO, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, 0).eval()
    return assemble(model, tokenizer, shop_corpus, ids, template="nano", markers=True, history=5)


@pytest.mark.parametrize("make", [shop.checkpoint, with_markers])
@torch.inference_mode()
def test_equals_teacher_forcing(make):
    checkpoint = make()
    slates = shop.slates(5, Split.TEST)
    # Histories of different lengths, so that prompts are padded.
    slates = [
        type(s)(**{f: getattr(s, f) for f in s.__slots__} | {"history": s.history[: 1 + i % 3]})
        for i, s in enumerate(slates)
    ]
    scores = scores_at_once(checkpoint, slates)
    for b, slate in enumerate(slates):
        (prompt,) = prompt_tokens(checkpoint, [slate], think=False)
        for c, spelled in enumerate(checkpoint.id_tokens.of(slate.candidates).tolist()):
            logp = checkpoint.model(input_ids=torch.tensor([prompt + spelled])).logits[0].log_softmax(-1)
            expected = sum(logp[len(prompt) - 1 + i, t].item() for i, t in enumerate(spelled))
            assert scores[b, c].item() == pytest.approx(expected, abs=1e-4)


@torch.inference_mode()
def test_behind_an_open_thought_labels_are_scored():
    checkpoint, slates = shop.checkpoint(), shop.slates(2, Split.TEST)
    labels = checkpoint.tokenizer.convert_tokens_to_ids(list(LABELS[: shop.K]))
    texts = [[*p, 7, 8][: len(p) + 1 + i] for i, p in enumerate(prompt_tokens(checkpoint, slates, think=True))]
    tree = slate_tree(checkpoint, texts, slates)
    scores = read_candidates(checkpoint.model, hidden_states(checkpoint.model, tree), tree)
    for text, row in zip(texts, scores.tolist(), strict=True):
        logp = checkpoint.model(input_ids=torch.tensor([text])).logits[0, -1].log_softmax(-1)
        assert row == pytest.approx(logp[labels].tolist(), abs=1e-4)


@torch.inference_mode()
def test_ids_of_one_token_need_no_branches():
    checkpoint = shop.checkpoint()
    batch = tree_batch([[5, 6], [7]], torch.tensor([[[8], [9]], [[10], [11]]]), pad=0)
    assert batch.input_ids.tolist() == [[5, 6], [0, 7]]
    logp = checkpoint.model(input_ids=torch.tensor([[5, 6]])).logits[0, -1].log_softmax(-1)
    assert read_candidates(checkpoint.model, hidden_states(checkpoint.model, batch), batch)[
        0
    ].tolist() == pytest.approx(logp[[8, 9]].tolist(), abs=1e-4)


def test_rankings_follow_the_scores():
    checkpoint = shop.checkpoint()
    slates = shop.slates(3, Split.TEST)
    with torch.inference_mode():
        scores = scores_at_once(checkpoint, slates)
    for ranking, row in zip(rank_in_one_pass(checkpoint, slates, batch_size=2, label="x"), scores, strict=True):
        assert list(ranking.order) == sorted(range(shop.K), key=lambda c, row=row: -row[c].item())


@torch.inference_mode()
def test_one_pass_serves_the_words_and_the_choice_in_their_middle():
    checkpoint = shop.checkpoint()
    slates = shop.slates(3, Split.TEST)
    prompts = prompt_tokens(checkpoint, slates, think=True)
    texts = [p + [7, 8, 9, 10][: 2 + i] for i, p in enumerate(prompts)]
    weights = [[0.0] * len(p) + [0.3, 1.0, 0.5, 2.0][: 2 + i] for i, p in enumerate(prompts)]
    tree = slate_tree(checkpoint, texts, slates, [len(p) + 1 for p in prompts])
    hidden = hidden_states(checkpoint.model, tree)
    middle = slate_tree(checkpoint, [[*p, 7] for p in prompts], slates)
    alone = read_candidates(checkpoint.model, hidden_states(checkpoint.model, middle), middle)
    assert torch.allclose(read_candidates(checkpoint.model, hidden, tree), alone, atol=1e-4)
    pad = checkpoint.tokenizer.pad_token_id
    plain = weighted_next_token(checkpoint.model, pad_right(texts, pad), pad_right(weights, 0, torch.float32))
    assert read_words(checkpoint.model, hidden, tree, weights).item() == pytest.approx(plain.item(), abs=1e-4)
