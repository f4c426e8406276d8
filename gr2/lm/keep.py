"""What mid-training has made of histories is kept while a model learns to rank and to reason. (ours)

The item head reads the states of a history, and fine-tuning moves them: on Beauty a fifth of what the head added to
advice was gone after 500 steps (docs/log.md). So the states of the model as it came are aimed at beside whatever else
is learned, on the histories of the very slates of the step. A model without an item head has nothing to keep.

Shapes: B slates, T tokens of history, D width.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from gr2.lm.batches import pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.item_head import head_of
from gr2.types import Slate

WEIGHT = 10.0
"""Of the change beside the losses of what is learned, which are in nats."""


def keeper(checkpoint: Checkpoint) -> Callable[[Sequence[Slate]], Tensor]:
    """Call it before training; what it gives says what forgetting costs on some slates: WEIGHT times `change`."""
    model = checkpoint.model
    if head_of(model) is None:
        return lambda slates: torch.zeros((), device=model.device)
    before = deepcopy(model).eval()
    pad = checkpoint.tokenizer.pad_token_id

    def cost(slates: Sequence[Slate]) -> Tensor:
        rows = [checkpoint.history_tokens(checkpoint.renderer.shown(s), checkpoint.renderer.times(s)) for s in slates]
        tokens_BT = pad_right(rows, pad).to(model.device)
        with torch.no_grad():
            was_BTD = before.model(input_ids=tokens_BT).last_hidden_state
        model.eval()  # dropout would be taken for change
        is_BTD = model.model(input_ids=tokens_BT).last_hidden_state
        model.train()
        return WEIGHT * change(was_BTD, is_BTD, tokens_BT != pad)

    return cost


def change(was_BTD: Tensor, is_BTD: Tensor, real_BT: Tensor) -> Tensor:
    """Squared difference of states over their square, sums over all real places."""
    was, now = was_BTD[real_BT].float(), is_BTD[real_BT].float()
    return (now - was).square().sum() / was.square().sum()
