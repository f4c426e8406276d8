"""Rollouts whose prompt is read once for a whole group, and whose finished rows soon cost nothing more (ours).

A group's answers ask the keys of their prompt in one product; nothing of the prompt is copied for them.

Shapes: U prompts of P tokens with G answers each still held, A = U G rows, of which some may have ended; H key heads
with R query heads each, T tokens written, W the width of a head; V tokens of the vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gr2.lm.attend import attention, forward, seen_before
from gr2.lm.batches import pad_left

WORTH_DROPPING = 0.75
"""Share of the rows that must be left at most for them to be moved together."""


@torch.inference_mode()
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
    held = Held(seen_UP.bool(), group, longest, model.dtype)
    positions_UP = (seen_UP.cumsum(1) - 1).clamp_min(0)
    logits_UV = forward(model, positions_UP, held.attend_prompts, input_ids=ids_UP, logits_to_keep=1).logits[:, -1]
    rows_A = torch.arange(len(prompts) * group, device=device)
    position_A = seen_UP.sum(1).repeat_interleave(group)
    going_A = torch.ones_like(rows_A, dtype=torch.bool)
    written_BC = torch.full((len(rows_A), longest), pad, device=device)
    lengths_B = torch.full((len(rows_A),), longest, device=device)
    token_A = draw(logits_UV.repeat_interleave(group, dim=0), temperature)
    stops_S = torch.tensor(list(stops), device=device)
    for at in range(longest):
        written_BC[rows_A[going_A], at] = token_A[going_A]
        ended_A = going_A & torch.isin(token_A, stops_S)
        lengths_B[rows_A[ended_A]] = at + 1
        going_A &= ~ended_A
        if at + 1 == longest or not going_A.any():
            break
        if ended_A.any() and (kept_A := held.drop(going_A)) is not None:
            rows_A, position_A, token_A, going_A = (t[kept_A] for t in (rows_A, position_A, token_A, going_A))
        logits_AV = forward(model, position_A[:, None], held.attend_token, input_ids=token_A[:, None]).logits[:, -1]
        held.written += 1
        position_A = position_A + 1
        token_A = draw(logits_AV, temperature)
    return [row[:n] for row, n in zip(written_BC.tolist(), lengths_B.tolist(), strict=True)]


class Held:
    """Keys and values, layer by layer: of each prompt once, and of what each of its answers wrote."""

    def __init__(self, seen_UP: Tensor, group: int, longest: int, dtype: torch.dtype) -> None:
        self.group, self.longest, self.written = group, longest, 0
        self.seen_UPP = seen_before(seen_UP)
        self.unseen_U1P = torch.zeros_like(seen_UP[:, None], dtype=dtype).masked_fill(~seen_UP[:, None], -torch.inf)
        self.prompts: list[tuple[Tensor, Tensor]] = []
        """(U, H, P, W) twice a layer."""
        self.own: list[tuple[Tensor, Tensor]] = []
        """(U, H, G, longest, W) twice a layer, of which T = `written` tokens are there."""

    def attend_prompts(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The pass over (U, P) tokens."""
        self.prompts.append((key.contiguous(), value.contiguous()))  # or every product would copy them
        u, heads, _, width = key.shape
        room = (u, heads, self.group, self.longest, width)
        self.own.append((key.new_empty(room), value.new_empty(room)))
        return attention(query, key, value, self.seen_UPP, scale).transpose(1, 2)

    def attend_token(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The pass over (A, 1) tokens."""
        (read_keys, read_values), own = self.prompts[layer], self.own[layer]
        u, h, p, w = read_keys.shape
        for kept, new in zip(own, (key, value), strict=True):
            kept[..., self.written, :] = new.view(u, self.group, h, w).transpose(1, 2)
        keys, values = (kept.flatten(0, 2)[:, : self.written + 1] for kept in own)
        query_UHGRW = query.view(u, self.group, h, -1, w).transpose(1, 2).contiguous()
        unseen = self.unseen_U1P.repeat_interleave(h, dim=0)
        read = torch.baddbmm(unseen, query_UHGRW.view(u * h, -1, w), read_keys.flatten(0, 1).mT, alpha=scale)
        wrote = query_UHGRW.view(len(keys), -1, w) @ keys.mT * scale
        scores = torch.cat([read.view(len(keys), -1, p), wrote], dim=-1)
        chances = scores.softmax(-1, torch.float32).to(query.dtype)
        out = chances[..., :p].reshape(u * h, -1, p) @ read_values.flatten(0, 1)
        out = torch.baddbmm(out.view(len(keys), -1, w), chances[..., p:], values)
        return out.view(u, h, self.group, -1, w).transpose(1, 2).reshape(len(query), 1, -1, w)

    def drop(self, going_A: Tensor) -> Tensor | None:
        """The rows to go on with, as many of every prompt, where that is few enough to be worth the moving."""
        going_UG = going_A.view(-1, self.group)
        counts_U = going_UG.sum(1)
        group, live_U = int(counts_U.max()), counts_U > 0
        if group * int(live_U.sum()) > WORTH_DROPPING * len(going_A):
            return None
        kept_UG = going_UG[live_U].int().argsort(dim=1, descending=True, stable=True)[:, :group]
        u = live_U.nonzero()
        self.own = [(self.moved(keys, u, kept_UG), self.moved(values, u, kept_UG)) for keys, values in self.own]
        if len(u) < len(live_U):
            self.prompts = [(keys[live_U], values[live_U]) for keys, values in self.prompts]
            self.unseen_U1P = self.unseen_U1P[live_U]
        kept_A = (u * self.group + kept_UG).flatten()
        self.group = group
        return kept_A

    def moved(self, held: Tensor, u: Tensor, kept_UG: Tensor) -> Tensor:
        """Those rows of (U, H, G, longest, W)."""
        there = held.transpose(1, 2)[u, kept_UG, :, : self.written].transpose(1, 2)
        room = held.new_empty(*there.shape[:3], self.longest, held.shape[-1])
        room[..., : self.written, :] = there
        return room


def draw(logits_AV: Tensor, temperature: float) -> Tensor:
    """(A,) tokens from the softmax: where one uniform number a row falls among the heaped probabilities."""
    heaped_AV = (logits_AV.float() / temperature).softmax(-1).cumsum(-1)
    falls_A1 = torch.rand(len(heaped_AV), 1, device=heaped_AV.device) * heaped_AV[:, -1:]
    return torch.searchsorted(heaped_AV, falls_A1, right=True)[:, 0].clamp_max(heaped_AV.shape[1] - 1)
