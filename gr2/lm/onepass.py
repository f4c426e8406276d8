"""The whole ranking from one forward pass: every candidate's id scored at once through a tree mask (ours).

After the prompt stand the K candidates as K branches. A branch sees the prompt and itself, not its
siblings, and its position numbers go on from the prompt's end, so its log-probability is exactly that of
writing this id as the first of the answer. The first code of all branches is read at the prompt's last
token, so a branch needs only its S - 1 first tokens: K (S - 1) tokens instead of K S decoding steps.

Shapes: B slates, P prompt tokens (padded on the left), K candidates, S tokens an id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TreeBatch:
    """Prompts with their candidates as branches."""

    input_ids: Tensor
    """(B, P + K (S - 1))"""
    position_ids: Tensor
    """(B, P + K (S - 1))"""
    attention_mask: Tensor
    """(B, 1, T, T) additive float mask, T = P + K (S - 1)."""
    spelled: Tensor
    """(B, K, S) token numbers of the candidates."""
    prompt_length: int
    """P"""


def tree_batch(prompts: Sequence[Sequence[int]], spelled_BKS: Tensor, pad: int) -> TreeBatch:
    """Pad prompts on the left and hang the candidates on them. Every slate of a batch has the same K."""
    b, k, s = spelled_BKS.shape
    p = max(map(len, prompts))
    branch = s - 1
    t = p + k * branch
    input_ids = torch.full((b, t), pad)
    position_ids = torch.zeros(b, t, dtype=torch.long)
    seen = torch.zeros(b, t, t, dtype=torch.bool)
    causal = torch.ones(p, p, dtype=torch.bool).tril()
    own_branch = torch.block_diag(*[torch.ones(branch, branch).tril()] * k).bool() if branch else None
    for i, prompt in enumerate(prompts):
        n = len(prompt)
        input_ids[i, p - n : p] = torch.tensor(prompt)
        position_ids[i, p - n : p] = torch.arange(n)
        seen[i, p - n : p, p - n : p] = causal[:n, :n]
        if own_branch is not None:
            position_ids[i, p:] = torch.arange(n, n + branch).repeat(k)
            seen[i, p:, p - n : p] = True
            seen[i, p:, p:] = own_branch
    if branch:
        input_ids[:, p:] = spelled_BKS[:, :, :-1].reshape(b, -1)
    seen |= torch.eye(t, dtype=torch.bool)  # padding must see something, or its softmax is NaN
    mask = torch.zeros(b, 1, t, t).masked_fill(~seen[:, None], torch.finfo(torch.float32).min)
    return TreeBatch(
        input_ids=input_ids, position_ids=position_ids, attention_mask=mask, spelled=spelled_BKS, prompt_length=p
    )


def candidate_logprobs(model: Any, batch: TreeBatch) -> Tensor:
    """(B, K) log-probability of each candidate's spelled id as the next tokens after the prompt."""
    device = model.device
    hidden = model.model(
        input_ids=batch.input_ids.to(device),
        position_ids=batch.position_ids.to(device),
        attention_mask=batch.attention_mask.to(device=device, dtype=model.dtype),
    ).last_hidden_state[:, batch.prompt_length - 1 :]
    spelled = batch.spelled.to(device)
    b, k, s = spelled.shape
    logp = model.lm_head(hidden).float().log_softmax(-1)
    total = logp[:, :1].expand(b, k, -1).gather(-1, spelled[:, :, :1])[..., 0]
    if s > 1:
        branches = logp[:, 1:].view(b, k, s - 1, -1)
        total = total + branches.gather(-1, spelled[:, :, 1:, None])[..., 0].sum(-1)
    return total
