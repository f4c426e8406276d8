"""From slates to rankings: by thinking first and writing the answer, or at once from one forward pass."""

from collections.abc import Sequence

import torch

from gr2.lm.batches import chunks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget, complete, prompt_tokens
from gr2.lm.onepass import TreeBatch, candidate_logprobs, tree_batch
from gr2.progress import track
from gr2.prompt.parse import parse
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


@torch.inference_mode()
def rank_in_one_pass(
    checkpoint: Checkpoint, slates: Sequence[Slate], *, batch_size: int, label: str | None
) -> list[Ranking]:
    """Candidates by the log-probability of their ids, ties in incoming order; always valid (ours)."""
    rankings = []
    for part in track(list(chunks(slates, batch_size)), label):
        scores_BK = candidate_logprobs(checkpoint.model, direct_tree(checkpoint, part))
        for slate, scores in zip(part, scores_BK, strict=True):
            order = torch.argsort(scores, descending=True, stable=True).tolist()
            rankings.append(Ranking(slate_id=slate.slate_id, order=tuple(order)))
    return rankings


def slate_tree(checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], slates: Sequence[Slate]) -> TreeBatch:
    """Tokens of prompts about slates of one K, with the slates' candidates as branches."""
    spelled = torch.stack([checkpoint.id_tokens.of(s.candidates) for s in slates])
    return tree_batch(prompts, spelled, checkpoint.tokenizer.pad_token_id)


def direct_tree(checkpoint: Checkpoint, slates: Sequence[Slate]) -> TreeBatch:
    """Prompts that want the answer at once."""
    return slate_tree(checkpoint, prompt_tokens(checkpoint, slates, think=False), slates)
