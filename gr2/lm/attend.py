"""A pass through a transformers model whose attention is ours: one entry for every model that takes attention from
transformers' interface, such as Qwen3 and Llama; weights, norms and rotations stay the model's own code.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from gr2.errors import UserError

NAME = "gr2"
Attend = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]
"""Layer, queries (B, heads, T, width), keys and values (B, key heads, T, width) of this pass, and what the products
are multiplied by -> (B, T, heads, width)."""


def can_attend(model: Any) -> bool:
    """Whether the model's attention is over all that stands before, without dropout, and no layer is run once more in
    the backward pass, where `forward` is over."""
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["sliding" if getattr(config, "sliding_window", None) else "full"]
    full = all(kind.startswith("full") for kind in kinds)
    return full and not getattr(config, "attention_dropout", 0.0) and not model.is_activation_checkpointing


def seen_before(real_BT: Tensor) -> Tensor:
    """(B, T, T) who sees whom among tokens (true) and padding: real ones that stand before, and oneself, since padding
    that sees nothing has a softmax of NaN."""
    self_TT = torch.eye(real_BT.shape[1], dtype=torch.bool, device=real_BT.device)
    return real_BT[:, None] & torch.ones_like(self_TT).tril() | self_TT


def attention(query: Tensor, key: Tensor, value: Tensor, seen_BTS: Tensor, scale: float) -> Tensor:
    """(B, heads, T, width) over S keys, where a key head may serve several query heads."""
    gqa = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, seen_BTS[:, None], scale=scale, enable_gqa=gqa)


def forward(model: Any, positions_BT: Tensor, attend: Attend, **keys: Any) -> Any:
    """The model's outputs of `input_ids` or `inputs_embeds`, with `attend` in every layer. Raises UserError where the
    model's attention is another."""
    config = model.config
    usual = config._attn_implementation
    config._attn_implementation = NAME
    try:
        return model(position_ids=positions_BT, attend=attend, use_cache=False, **keys)
    finally:
        config._attn_implementation = usual


def _interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    attend: Attend,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if dropout or sliding_window or softcap or s_aux is not None:
        raise UserError(
            f"{type(module).__name__}: its attention has dropout, a window, a cap or sinks, which are not kept here; "
            "take a model with plain attention, such as Qwen3 or Llama"
        )
    layer: Any = module.layer_idx
    return attend(layer, query, key, value, scaling), None


AttentionInterface.register(NAME, _interface)
