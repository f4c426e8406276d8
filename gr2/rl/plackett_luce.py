"""Rankings drawn from one forward pass, with exact log-probabilities (ours).

Read the candidates' log-probabilities as the scores of a Plackett-Luce model: the first of the answer is drawn from
their softmax, the second from the softmax of what is left, and so on. A rollout then costs no decoding at all, the
log-probability of a whole permutation is exact, and a group of many rollouts shares one forward pass.

Shapes: B slates, K candidates, G rollouts a slate.
"""

import torch
from torch import Tensor


def sample_orders(scores_BK: Tensor, rollouts: int, generator: torch.Generator | None = None) -> Tensor:
    """(B, G, K) permutations, best first, drawn by the Gumbel trick."""
    b, k = scores_BK.shape
    noise = torch.rand(b, rollouts, k, generator=generator, device=scores_BK.device).clamp_min(1e-20)
    return (scores_BK.detach()[:, None] - (-noise.log()).log()).argsort(-1, descending=True)


def rank_log_probs(scores_BK: Tensor, orders_BGK: Tensor) -> Tensor:
    """(B, G, K): log P(what stands at rank r | what stands above it) = s[order_r] - logsumexp(s[order_r:])."""
    scores_BGK = scores_BK[:, None].expand(*orders_BGK.shape).gather(-1, orders_BGK)
    left = scores_BGK.flip(-1).logcumsumexp(-1).flip(-1)
    return scores_BGK - left


def log_prob(scores_BK: Tensor, orders_BGK: Tensor) -> Tensor:
    """(B, G): log P(order), the sum over ranks."""
    return rank_log_probs(scores_BK, orders_BGK).sum(-1)
