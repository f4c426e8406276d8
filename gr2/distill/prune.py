"""Depth-wise pruning: leave out the layer that is missed least (P2 §5; how it is chosen is ours)."""

import copy
from collections.abc import Callable
from typing import Any

from gr2.lm.checkpoint import Checkpoint


def without_layer(model: Any, at: int) -> Any:
    """A copy of a Qwen3-like model without layer `at`, counted from 0; the layers above move down."""
    smaller = copy.deepcopy(model)
    del smaller.model.layers[at]
    for number, layer in enumerate(smaller.model.layers):
        layer.self_attn.layer_idx = number  # the place of its keys and values in a cache
    smaller.config.num_hidden_layers = len(smaller.model.layers)
    if getattr(smaller.config, "layer_types", None):
        smaller.config.layer_types = smaller.config.layer_types[:at] + smaller.config.layer_types[at + 1 :]
    return smaller


def least_missed(checkpoint: Checkpoint, harm: Callable[[Checkpoint], float]) -> tuple[Checkpoint, list[float]]:
    """The checkpoint without the layer that does the least harm when it is gone, and the harm of leaving out each."""

    def without(at: int) -> Checkpoint:
        return checkpoint.with_model(without_layer(checkpoint.model, at))

    harms = [harm(without(at)) for at in range(len(checkpoint.model.model.layers))]  # one copy at a time
    return without(harms.index(min(harms))), harms
