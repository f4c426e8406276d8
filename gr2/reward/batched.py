"""P2's reward of many valid rankings at once, for rollouts that need no decoding.

    Eq. 7: R = alpha R_fmt              if the answer is the incoming order and that order is not perfect
           R = R_rank + alpha R_fmt     otherwise

with R_rank = R_NDCG. Every ranking here is valid, so alpha R_fmt is the same for all of a group and left out.
NDCG pays for the top of the list; P1's promotion pays as much for a place at its end (docs/log.md).

Shapes: B slates, G rollouts, K candidates.
"""

import torch
from torch import Tensor


def ndcg_unless_echo(orders_BGK: Tensor, gains_BK: Tensor) -> Tensor:
    """(B, G) NDCG of each ranking, 0 for an echo of an imperfect incoming order. Every slate needs a positive."""
    k = orders_BGK.shape[-1]
    discounts_K = 1 / torch.log2(torch.arange(k, device=orders_BGK.device) + 2.0)
    worth_BK = 2.0**gains_BK - 1
    ideal_B = (worth_BK.sort(-1, descending=True).values * discounts_K).sum(-1)
    found_BGK = worth_BK[:, None].expand(orders_BGK.shape).gather(-1, orders_BGK)
    ndcg_BG = (found_BGK * discounts_K).sum(-1) / ideal_B[:, None]
    echo_BG = (orders_BGK == torch.arange(k, device=orders_BGK.device)).all(-1)
    return torch.where(echo_BG & (ndcg_BG < 1 - 1e-6), 0.0, ndcg_BG)
