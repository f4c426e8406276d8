"""From slates to rankings: by thinking first, at once, or by writing everything out.

The ranking is read from one forward pass: thinking, from the candidates' labels where the thought has given its
reasons; at once, from their ids behind the prompt; and both times from the item head where the history ends, and from
the advice beside them. It is always a permutation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gr2.advice.advisor import advice_of
from gr2.lm.batches import chunks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.feature_reader import features_of, reader_of
from gr2.lm.generate import Budget, complete, prompt_tokens, reason
from gr2.lm.item_head import head_of
from gr2.lm.onepass import TreeBatch, hidden_states, read_candidates, tree_batch
from gr2.progress import track
from gr2.prompt.parse import parse
from gr2.prompt.render import CANDIDATES, END_THINK, HISTORY, LABELS
from gr2.teach.rationale import ARROW
from gr2.types import AnswerStatus, Ranking, Slate


def rank_by_writing(
    checkpoint: Checkpoint,
    slates: Sequence[Slate],
    *,
    constrained: bool,
    budget: Budget,
    label: str | None,
) -> list[Ranking]:
    """What the model writes after its thought. An invalid answer gets the incoming order and keeps its status."""
    texts = complete(checkpoint, slates, constrained=constrained, budget=budget, label=label)
    rankings = []
    for slate, text in zip(slates, texts, strict=True):
        answer = parse(text, len(slate.candidates))
        valid = answer.status is AnswerStatus.VALID
        rankings.append(
            Ranking(
                slate_id=slate.slate_id,
                order=answer.order if valid else tuple(range(len(slate.candidates))),
                status=answer.status,
                thought=answer.thought.strip(),
            )
        )
    return rankings


def rank_by_thinking(
    checkpoint: Checkpoint, slates: Sequence[Slate], *, budget: Budget, label: str | None
) -> list[Ranking]:
    """Candidates by their scores after the model's own reasons (ours). The thought ends with the
    candidate that it leads to, the first of the ranking."""
    prompts, reasons = reason(checkpoint, slates, budget=budget, label=label)
    orders = orders_behind(checkpoint, prompts, slates, budget.batch_size)
    return [
        Ranking(slate_id=slate.slate_id, order=order, thought=f"{text.strip()} {ARROW} [c{order[0] + 1}]")
        for slate, order, text in zip(slates, orders, reasons, strict=True)
    ]


def rank_in_one_pass(
    checkpoint: Checkpoint, slates: Sequence[Slate], *, batch_size: int, label: str | None
) -> list[Ranking]:
    """Candidates by their scores, ties in incoming order (ours)."""
    rankings = []
    for part in track(list(chunks(slates, batch_size)), label):
        orders = orders_behind(checkpoint, prompt_tokens(checkpoint, part, think=False), part, batch_size)
        rankings += [Ranking(slate_id=s.slate_id, order=o) for s, o in zip(part, orders, strict=True)]
    return rankings


@torch.inference_mode()
def orders_behind(
    checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], slates: Sequence[Slate], batch_size: int
) -> list[tuple[int, ...]]:
    """Each slate's candidates by their scores behind its prompt, ties in incoming order."""
    orders: list[tuple[int, ...]] = []
    for some, of in zip(chunks(prompts, batch_size), chunks(slates, batch_size), strict=True):
        scores_BK = scores(checkpoint, some, of)
        orders += map(tuple, scores_BK.argsort(dim=1, descending=True, stable=True).tolist())
    return orders


def scores(checkpoint: Checkpoint, texts: Sequence[Sequence[int]], slates: Sequence[Slate]) -> Tensor:
    """(B, K) the sum of the voices, weighted. All slates have one K."""
    return weighed(checkpoint, voices(checkpoint, texts, slates))


def weighed(checkpoint: Checkpoint, voices_BK4: Tensor) -> Tensor:
    """(B, K) the same, of voices that are read already."""
    words_BK, advice_BK, items_BK, anyone_BK = voices_BK4.unbind(-1)
    own_BK = checkpoint.words * words_BK + checkpoint.items * items_BK + checkpoint.anyone * anyone_BK
    return own_BK + checkpoint.advice * advice_BK


def scores_at_once(checkpoint: Checkpoint, slates: Sequence[Slate]) -> Tensor:
    """(B, K) `scores` behind prompts that want the answer at once."""
    return scores(checkpoint, prompt_tokens(checkpoint, slates, think=False), slates)


def voices_at_once(checkpoint: Checkpoint, slates: Sequence[Slate]) -> Tensor:
    """(B, K, 4) `voices` behind such prompts."""
    return voices(checkpoint, prompt_tokens(checkpoint, slates, think=False), slates)


def voices(checkpoint: Checkpoint, texts: Sequence[Sequence[int]], slates: Sequence[Slate]) -> Tensor:
    """(B, K, 4) `read_voices` behind these texts."""
    tree = slate_tree(checkpoint, texts, slates)
    return read_voices(checkpoint, hidden_states(checkpoint.model, tree), tree, texts, slates)


def read_voices(
    checkpoint: Checkpoint, hidden_BTD: Tensor, tree: TreeBatch, texts: Sequence[Sequence[int]], slates: Sequence[Slate]
) -> Tensor:
    """(B, K, 4) all that speaks for a candidate: the log-probability of its id, or label, behind the text, the advice,
    what the item head says of it where the history ends, and what it says of it where the history begins, which it
    would say of anyone (0 where there is no head, or no advice is shown). All slates have one K."""
    words_BK = read_candidates(checkpoint.model, hidden_BTD, tree)
    items_BK = anyone_BK = torch.zeros_like(words_BK)
    head = head_of(checkpoint.model)
    if head is not None:
        begins, listed = checkpoint.tokenizer.convert_tokens_to_ids([HISTORY, CANDIDATES])
        # A model that reads gaps was taught to name an item at the gap before it, and the first gap is always unknown.
        first = [tree.text_length - len(text) + text.index(begins) + checkpoint.renderer.gaps for text in texts]
        last = [tree.text_length - len(text) + text.index(listed) - 1 for text in texts]
        rows_BK = torch.tensor([[checkpoint.id_tokens.row[i] for i in s.candidates] for s in slates])
        rows_BK, line = rows_BK.to(hidden_BTD.device), torch.arange(len(texts))
        items_BK, anyone_BK = (head.scores(hidden_BTD[line, at], rows_BK) for at in (last, first))
    advice_BK = advice_of(slates).to(words_BK.device) if checkpoint.renderer.advised else torch.zeros_like(words_BK)
    return torch.stack([words_BK, advice_BK, items_BK, anyone_BK], -1)


def slate_tree(
    checkpoint: Checkpoint,
    texts: Sequence[Sequence[int]],
    slates: Sequence[Slate],
    stems: Sequence[int] | None = None,
) -> TreeBatch:
    """Texts about slates of one K with what is scored of the candidates: their labels where a thought is open, their
    ids where it is closed; `stems` as in `tree_batch`."""
    number: Any = checkpoint.tokenizer.convert_tokens_to_ids
    spelled = torch.stack([checkpoint.id_tokens.of(s.candidates) for s in slates])
    labels, pad = number(list(LABELS[: spelled.shape[1]])), checkpoint.tokenizer.pad_token_id
    if reader_of(checkpoint.model) is not None:
        return tree_batch(texts, spelled, pad, stems, labels, features_of(slates))
    if texts[0][-1 if stems is None else stems[0] - 1] != number(END_THINK):
        spelled = torch.tensor(labels)[None, :, None].expand(len(slates), -1, 1)
    return tree_batch(texts, spelled, pad, stems)
