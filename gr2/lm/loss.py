"""Losses on token sequences."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def weighted_next_token(model: Any, tokens_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """Mean over weighted tokens of -log P(token | those before it), in nats.

    `weights_BT[b, t]` is how much predicting token t counts; 0 on padding and on what is only read. The sum is
    divided by the sum of the weights (P1: lambda_r on reasoning, lambda_o on answer tokens).
    """
    device = model.device
    tokens, weights = tokens_BT.to(device), weights_BT.to(device)
    return weighted_nats(model(input_ids=tokens[:, :-1]).logits, tokens[:, 1:], weights[:, 1:])


def weighted_nats(logits_BTV: Tensor, tokens_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """Mean over weighted tokens of -log P(token), in nats, by the logits at the same place."""
    nats = F.cross_entropy(logits_BTV.float().flatten(0, 1), tokens_BT.flatten(), reduction="none")
    wanted = weights_BT.flatten()
    return (nats * wanted).sum() / wanted.sum()
