"""What has been read of prompts and of their rollouts, for attention: all rollouts of a group ask the keys of their
prompt in one product, and nothing of the prompt is copied for them (ours).

Shapes: U prompts of P tokens with G answers each, A = U G rows of which some may have ended, B of which none has been
dropped; H key heads with R query heads each, Q tokens read in a pass, T tokens written, W the width of a head; C rows
that go on alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gr2.lm.attend import attention, seen_before

WORTH_DROPPING = 0.75
"""Share of the rows that must be left at most for them to be moved together."""

KeysValues = list[tuple[Tensor, Tensor]]
"""A pair a layer."""


class Held:
    """Keys and values, layer by layer: of each prompt once, and of what each of its answers wrote."""

    def __init__(self, seen_UP: Tensor, group: int, longest: int, dtype: torch.dtype) -> None:
        self.seen_UP, self.group, self.longest, self.written = seen_UP, group, longest, 0
        self.unseen_U1P = torch.zeros_like(seen_UP[:, None], dtype=dtype).masked_fill(~seen_UP[:, None], -torch.inf)
        self.prompts: KeysValues = []
        """(U, H, P, W) twice a layer."""
        self.own: KeysValues = []
        """(U, H, G, longest, W) twice a layer, of which T = `written` tokens are there."""

    def hold(self, keys: Tensor, values: Tensor) -> None:
        """The next layer's, of the prompts."""
        self.prompts.append((keys, values))
        u, heads, _, width = keys.shape
        room = (u, heads, self.group, self.longest, width)
        self.own.append((keys.new_empty(room), values.new_empty(room)))

    def attend_prompts(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The pass over (U, P) tokens."""
        self.hold(key.contiguous(), value.contiguous())  # or every product would copy them
        return attention(query, key, value, seen_before(self.seen_UP), scale).transpose(1, 2)

    def attend_token(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The pass over (A, 1) tokens."""
        u, h = self.prompts[layer][0].shape[:2]
        for kept, new in zip(self.own[layer], (key, value), strict=True):
            kept[..., self.written, :] = new.view(u, self.group, h, -1).transpose(1, 2)
        return self.attend_own(layer, query, self.written + 1, scale)

    def attend_own(
        self, layer: int, query: Tensor, wrote: int, scale: float, unseen_U1G1QT: Tensor | None = None
    ) -> Tensor:
        """(A, Q, heads, W) of queries (A, heads, Q, W), which see their prompt and the first `wrote` of their own."""
        read_keys, read_values = self.prompts[layer]
        (u, h, p, w), q = read_keys.shape, query.shape[2]
        keys, values = (kept.flatten(0, 2)[:, :wrote] for kept in self.own[layer])
        query = query.view(u, self.group, h, -1, q, w).transpose(1, 2).contiguous()  # (U, H, G, R, Q, W)
        unseen = self.unseen_U1P.repeat_interleave(h, dim=0)
        read = torch.baddbmm(unseen, query.view(u * h, -1, w), read_keys.flatten(0, 1).mT, alpha=scale)
        own = query.view(len(keys), -1, w) @ keys.mT * scale
        if unseen_U1G1QT is not None:
            own = (own.view(u, h, self.group, -1, q, wrote) + unseen_U1G1QT).view_as(own)
        scores = torch.cat([read.view(len(keys), -1, p), own], dim=-1)
        chances = scores.softmax(-1, torch.float32).to(query.dtype)
        out = chances[..., :p].reshape(u * h, -1, p) @ read_values.flatten(0, 1)
        out = torch.baddbmm(out.view(len(keys), -1, w), chances[..., p:], values)
        return out.view(u, h, self.group, -1, q, w).permute(0, 2, 4, 1, 3, 5).reshape(u * self.group, q, -1, w)

    def wrote(self, rows_A: Tensor) -> KeysValues:
        """(D, H, T, W) of these D rows."""
        u_D, g_D = rows_A.view(-1, self.group).nonzero(as_tuple=True)
        return [(keys[u_D, :, g_D, : self.written], values[u_D, :, g_D, : self.written]) for keys, values in self.own]

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


class Uneven:
    """All rows of a group that have written different numbers of tokens, and read several more at once."""

    def __init__(
        self,
        prompts: KeysValues,
        seen_UP: Tensor,
        group: int,
        places_BQ: Tensor,
        own: Sequence[tuple[Tensor, KeysValues]],
    ) -> None:
        """`places_BQ` are those of the tokens to be read among a row's own; `own`: rows and what they wrote before."""
        self.places_BQ = places_BQ
        dtype, longest = prompts[0][0].dtype, int(places_BQ.max()) + 1
        self.held = Held(seen_UP, group, longest, dtype)
        rows_B = torch.arange(len(places_BQ), device=seen_UP.device)
        self.u_B, self.g_B = rows_B // group, rows_B % group
        later_BQT = torch.arange(longest, device=seen_UP.device) > places_BQ[..., None]
        unseen_BQT = torch.zeros_like(later_BQT, dtype=dtype).masked_fill(later_BQT, -torch.inf)
        self.unseen_U1G1QT = unseen_BQT.view(len(seen_UP), 1, group, 1, -1, longest)
        for layer, pair in enumerate(prompts):
            self.held.hold(*pair)
            for side, kept in enumerate(self.held.own[layer]):
                kept.zero_()
                for rows, of_layers in own:
                    new = of_layers[layer][side]
                    kept[self.u_B[rows], :, self.g_B[rows], : new.shape[2]] = new

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The pass over (B, Q) tokens."""
        for kept, new in zip(self.held.own[layer], (key, value), strict=True):
            kept[self.u_B[:, None], :, self.g_B[:, None], self.places_BQ] = new.transpose(1, 2)
        return self.held.attend_own(layer, query, self.held.longest, scale, self.unseen_U1G1QT)

    def alone(self, rows_C: Tensor, read_C: Tensor, longest: int) -> Held:
        """These rows, each for itself, with their prompts and so many of their own tokens before them."""
        u_C, g_C = self.u_B[rows_C], self.g_B[rows_C]
        own_CT = torch.arange(self.held.longest, device=rows_C.device) < read_C[:, None]
        held = Held(torch.cat([self.held.seen_UP[u_C], own_CT], dim=1), 1, longest, self.unseen_U1G1QT.dtype)
        for of_prompts, own in zip(self.held.prompts, self.held.own, strict=True):
            keys, values = (
                torch.cat([prompts[u_C], kept[u_C, :, g_C]], dim=2)
                for prompts, kept in zip(of_prompts, own, strict=True)
            )
            held.hold(keys, values)
        return held
