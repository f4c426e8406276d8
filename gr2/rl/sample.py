"""Rollouts whose prompt is read once for a whole group, and whose finished rows cost nothing more (ours).

Shapes: U prompts, B = U G rollouts of which A are still being written, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from gr2.lm.batches import pad_left


class Roomy(DynamicLayer):
    """Keys and values of one layer with room ahead: a new token is put behind the old ones, which stay in place."""

    ROOM = 32
    """Tokens."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = self.room = key_states, value_states
            return self.room
        before, after = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if self.room[0].shape[2] < after or self.room[0].shape[0] != key_states.shape[0]:
            self.room = (self.roomy(self.keys, after), self.roomy(self.values, after))
        for held, new in zip(self.room, (key_states, value_states), strict=True):
            held[:, :, before:after] = new
        keys, values = (held[:, :, :after] for held in self.room)
        self.keys, self.values = keys, values
        return keys, values

    def roomy(self, held: Tensor, length: int) -> Tensor:
        """A copy of (A, heads, T, width) with room for `length` tokens and some more."""
        a, heads, t, width = held.shape
        larger = held.new_empty(a, heads, length + self.ROOM, width)
        larger[:, :, :t] = held
        return larger


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    group: int,
    *,
    longest: int,
    temperature: float,
    stops: Sequence[int],
    pad: int,
) -> list[list[int]]:
    """`group` completions of each prompt, next to each other, of at most `longest` tokens, up to and with a stop."""
    device = model.device
    ids_UP, seen_UP = (t.to(device) for t in pad_left(prompts, pad))
    cache = Cache(layer_class_to_replicate=Roomy)
    logits_UV = model(input_ids=ids_UP, attention_mask=seen_UP, past_key_values=cache, logits_to_keep=1).logits[:, -1]
    cache.batch_repeat_interleave(group)
    rows_A = torch.arange(len(prompts) * group, device=device)
    seen_AT = seen_UP.repeat_interleave(group, dim=0)
    written_BC = torch.full((len(rows_A), longest), pad, device=device)
    lengths_B = torch.full((len(rows_A),), longest, device=device)
    token_A = draw(logits_UV.repeat_interleave(group, dim=0), temperature)
    stops_S = torch.tensor(list(stops), device=device)
    for at in range(longest):
        written_BC[rows_A, at] = token_A
        ended_A = torch.isin(token_A, stops_S)
        lengths_B[rows_A[ended_A]] = at + 1
        going_A = ~ended_A
        if at + 1 == longest or not going_A.any():
            break
        if ended_A.any():
            rows_A, token_A, seen_AT = rows_A[going_A], token_A[going_A], seen_AT[going_A]
            cache.batch_select_indices(going_A)
        seen_AT = torch.cat([seen_AT, seen_AT.new_ones(len(rows_A), 1)], dim=1)
        logits_AV = model(input_ids=token_A[:, None], attention_mask=seen_AT, past_key_values=cache).logits[:, -1]
        token_A = draw(logits_AV, temperature)
    return [row[:n] for row, n in zip(written_BC.tolist(), lengths_B.tolist(), strict=True)]


def draw(logits_AV: Tensor, temperature: float) -> Tensor:
    """(A,) tokens from the softmax: where one uniform number a row falls among the heaped probabilities."""
    heaped_AV = (logits_AV.float() / temperature).softmax(-1).cumsum(-1)
    falls_A1 = torch.rand(len(heaped_AV), 1, device=heaped_AV.device) * heaped_AV[:, -1:]
    return torch.searchsorted(heaped_AV, falls_A1, right=True)[:, 0].clamp_max(heaped_AV.shape[1] - 1)
