"""Cross-entropy over a whole catalogue, loss and gradient in one pass over pieces that stay in the cache (ours).

The plain way writes the logits of all events to memory and reads them back several times over. Here a piece of them is
made, turned into its gradient and forgotten, so that memory does not grow with events times items.
"""

from typing import Any

import torch
from torch import Tensor

PIECE = 2**23
"""Logits held at once."""


class CatalogueCrossEntropy(torch.autograd.Function):
    """See `catalogue_cross_entropy`."""

    @staticmethod
    def forward(ctx: Any, states_ED: Tensor, items_ND: Tensor, targets_E: Tensor) -> Tensor:
        to_states = torch.empty_like(states_ED, dtype=torch.float32)
        to_items = torch.zeros_like(items_ND, dtype=torch.float32)
        nats = torch.zeros((), device=states_ED.device)
        n = max(1, PIECE // len(items_ND))
        for states, targets, to in zip(states_ED.split(n), targets_E.split(n), to_states.split(n), strict=True):
            p = torch.softmax(states @ items_ND.T, dim=1)
            hit = p[torch.arange(len(p)), targets].float()
            nats -= hit.clamp_min(torch.finfo(torch.float32).tiny).log().sum()
            to.copy_(p @ items_ND)
            to_items += p.T @ states
        to_states -= items_ND[targets_E]
        to_items.index_add_(0, targets_E, states_ED.float(), alpha=-1)
        ctx.save_for_backward(to_states / len(targets_E), to_items / len(targets_E))
        return nats / len(targets_E)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        to_states, to_items = ctx.saved_tensors
        return grads[0] * to_states, grads[0] * to_items, None


def catalogue_cross_entropy(states_ED: Tensor, items_ND: Tensor, targets_E: Tensor) -> Tensor:
    """Mean nats of the `targets_E` (rows of `items_ND`) under softmax(states @ items.T), as a float32 scalar.

    Products are made in the dtype of states and items, which is one, and summed over pieces in float32.
    """
    loss: Tensor = CatalogueCrossEntropy.apply(states_ED, items_ND, targets_E)
    return loss
