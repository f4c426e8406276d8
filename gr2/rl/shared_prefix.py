"""Log-probabilities of completions whose prompts are read once, however many completions each has (ours).

TRL reads prompt and completion of every rollout: G times the same prompt. Here each distinct prompt is read once, with
gradient, and its keys and values are lent to its completions. Behind the last layer, padding is left out.

Shapes: U distinct prompts, B rollouts, P prompt tokens (padded on the left), C completion tokens (on the right).
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


def completion_log_probs(
    model: Any,
    prompts_UP: Tensor,
    of_B: Tensor,
    completions_BC: Tensor,
    mask_BC: Tensor,
    *,
    pad: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """(B, C) log-probabilities, with gradient, and entropies in nats, without; 0 where `mask_BC` is.

    `of_B` is the row of each rollout's prompt in `prompts_UP`.
    """
    base = model.base_model
    cache = DynamicCache(config=model.config)
    seen_UP = (prompts_UP != pad).long()
    read_UPD = base(input_ids=prompts_UP, attention_mask=seen_UP, past_key_values=cache).last_hidden_state
    cache.batch_select_indices(of_B)
    written_BCD = base(
        input_ids=completions_BC[:, :-1],
        attention_mask=torch.cat([seen_UP[of_B], mask_BC[:, :-1]], dim=1),
        past_key_values=cache,
    ).last_hidden_state
    hidden_BCD = torch.cat([read_UPD[of_B, -1:], written_BCD], dim=1)
    real_BC = mask_BC.bool()
    logp_NV = (model.get_output_embeddings()(hidden_BCD[real_BC]).float() / temperature).log_softmax(-1)
    logp_N = logp_NV.gather(-1, completions_BC[real_BC][:, None])[:, 0]
    with torch.no_grad():
        entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
    zeros_BC = torch.zeros_like(completions_BC, dtype=logp_N.dtype)
    return zeros_BC.masked_scatter(real_BC, logp_N), zeros_BC.masked_scatter(real_BC, entropy_N)
