"""Rollouts whose prompt is read once for a whole group, whose finished rows soon cost nothing more, and of which what
can be guessed is read at once, not token by token (ours).

A group's answers ask the keys of their prompt in one product; nothing of the prompt is copied for them. Rows that come
to the cue of a draft wait for each other. Then one pass reads what each of them is expected to write, a token is drawn
at every place of it, and a row keeps those up to the first that is not the expected one, that one too. So every token
is drawn from the model's own chances, whatever was expected (Leviathan et al. 2023, with a guess in the place of a
smaller model).

Shapes: U prompts of P tokens with G answers each still held, A = U G rows, of which some may have ended; B completions
of at most C tokens; D rows with a draft, Q tokens of each read in one pass, which see S others; H key heads with R
query heads each, T tokens written, W the width of a head; V tokens of the vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_sides

from gr2.lm.attend import attention, forward, seen_before
from gr2.lm.batches import pad_left, pad_right

WORTH_DROPPING = 0.75
"""Share of the rows that must be left at most for them to be moved together."""

KeysValues = list[tuple[Tensor, Tensor]]
"""A pair a layer."""


@dataclass(frozen=True)
class Draft:
    """What is likely to be written behind a token."""

    cue: int
    guess: Callable[[Sequence[int], Sequence[int]], list[int]]
    """Given a prompt, and what has been written up to and with the cue."""


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
    draft: Draft | None = None,
) -> list[list[int]]:
    """`group` completions of each prompt, next to each other, of at most `longest` tokens, up to and with a stop."""
    ids_UP, seen_UP = (t.to(model.device) for t in pad_left(prompts, pad))
    positions_UP = (seen_UP.cumsum(1) - 1).clamp_min(0)
    held = Held(seen_UP.bool(), group, longest, model.dtype)
    logits_UV = forward(model, positions_UP, held.attend_prompts, input_ids=ids_UP, logits_to_keep=1).logits[:, -1]
    of_prompts = held.prompts
    writer = Writer(model, len(prompts) * group, longest, temperature, stops, pad)
    rows_B = torch.arange(len(prompts) * group, device=model.device)
    drawn_B = draw(logits_UV.repeat_interleave(group, dim=0), temperature)
    positions_B = seen_UP.sum(1).repeat_interleave(group)
    waiting = writer.go_on(held, rows_B, drawn_B, positions_B, draft.cue if draft else None)
    if draft and waiting:
        rows_D, written = torch.cat([rows for rows, _ in waiting]), writer.completions()
        guesses = [[draft.cue, *draft.guess(prompts[b // group], written[b])] for b in rows_D.tolist()]
        of_D, owns = rows_D // group, [own for _, own in waiting]
        before = [
            (beside(keys[of_D], [own[i][0] for own in owns]), beside(values[of_D], [own[i][1] for own in owns]))
            for i, (keys, values) in enumerate(of_prompts)
        ]
        own_T = torch.arange(before[0][0].shape[2] - seen_UP.shape[1], device=model.device)
        own_DT = own_T < writer.lengths_B[rows_D, None] - 1  # the cue has not been read
        writer.read_at_once(rows_D, guesses, before, torch.cat([seen_UP[of_D].bool(), own_DT], dim=1))
    return writer.completions()


class Writer:
    """Draws tokens and keeps what has been written, row by row."""

    def __init__(self, model: Any, rows: int, longest: int, temperature: float, stops: Sequence[int], pad: int) -> None:
        self.model, self.longest, self.temperature, self.pad = model, longest, temperature, pad
        self.stops_S = torch.tensor(list(stops), device=model.device)
        self.written_BC = torch.full((rows, longest), pad, device=model.device)
        self.lengths_B = torch.zeros(rows, dtype=torch.long, device=model.device)

    def completions(self) -> list[list[int]]:
        return [row[:n] for row, n in zip(self.written_BC.tolist(), self.lengths_B.tolist(), strict=True)]

    def write(self, rows_A: Tensor, tokens_AQ: Tensor, counts_A: Tensor) -> None:
        """The first so many tokens of each row behind what it has."""
        q_Q = torch.arange(tokens_AQ.shape[1], device=tokens_AQ.device)
        new_AQ = q_Q < counts_A[:, None]
        places_AQ = self.lengths_B[rows_A, None] + q_Q
        self.written_BC[rows_A[:, None].expand_as(places_AQ)[new_AQ], places_AQ[new_AQ]] = tokens_AQ[new_AQ]
        self.lengths_B[rows_A] += counts_A

    def go_on(
        self, held: "Held", rows_A: Tensor, token_A: Tensor, position_A: Tensor, cue: int | None = None
    ) -> list[tuple[Tensor, KeysValues]]:
        """Write the tokens that were drawn last, which stand at these positions, and on from there until every row has
        ended or come to the cue; returns the rows that came to it, and what they wrote before it."""
        waiting: list[tuple[Tensor, KeysValues]] = []
        going_A = torch.ones_like(rows_A, dtype=torch.bool)
        while True:
            self.write(rows_A, token_A[:, None], going_A.long())
            left_A = going_A & ~torch.isin(token_A, self.stops_S) & (self.lengths_B[rows_A] < self.longest)
            if cue is not None and (waits_A := left_A & (token_A == cue)).any():
                waiting.append((rows_A[waits_A], held.wrote(waits_A)))
                left_A &= ~waits_A
            if not left_A.any():
                return waiting
            if (left_A != going_A).any() and (kept_A := held.drop(left_A)) is not None:
                rows_A, position_A, token_A, left_A = (t[kept_A] for t in (rows_A, position_A, token_A, left_A))
            going_A = left_A
            read = forward(self.model, position_A[:, None], held.attend_token, input_ids=token_A[:, None])
            held.written += 1
            position_A = position_A + 1
            token_A = draw(read.logits[:, -1], self.temperature)

    def read_at_once(self, rows_D: Tensor, guesses: Sequence[list[int]], before: KeysValues, seen_DS: Tensor) -> None:
        """Finish rows whose last token, the first of their guess, has not been read. What stands before it are these
        keys and values (D, H, S, W), where `seen_DS` is true."""
        device, room = rows_D.device, (self.longest - self.lengths_B[rows_D]).tolist()
        guesses = [guess[:n] for guess, n in zip(guesses, room, strict=True)]  # behind each token one is drawn
        tokens_DQ = pad_right(guesses, self.pad).to(device)
        guessed_D = torch.tensor([len(guess) - 1 for guess in guesses], device=device)
        d, q = tokens_DQ.shape
        q_Q = torch.arange(q, device=device)
        past_DQQ = (q_Q <= q_Q[:, None]).expand(d, q, q)
        seen_DQS = torch.cat([seen_DS[:, None].expand(-1, q, -1), past_DQQ], dim=2)
        all_read: KeysValues = []

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            keys, values = (torch.cat(parts, dim=2) for parts in zip(before[layer], (key, value), strict=True))
            all_read.append((keys, values))
            return attention(query, keys, values, seen_DQS, scale).transpose(1, 2)

        position_D = seen_DS.sum(1)
        logits_DQV = forward(self.model, position_D[:, None] + q_Q, attend, input_ids=tokens_DQ).logits
        drawn_DQ = draw(logits_DQV.flatten(0, 1), self.temperature).view(d, q)
        right_DQ = (drawn_DQ[:, :-1] == tokens_DQ[:, 1:]) & (q_Q[:-1] < guessed_D[:, None])
        going_DQ = right_DQ & ~torch.isin(drawn_DQ[:, :-1], self.stops_S)
        counts_D = going_DQ.cumprod(1).sum(1)
        self.write(rows_D, drawn_DQ, counts_D)
        held = Held(torch.cat([seen_DS, q_Q <= counts_D[:, None]], dim=1), 1, self.longest, self.model.dtype)
        for keys, values in all_read:
            held.hold(keys, values)
        self.go_on(held, rows_D, drawn_DQ.gather(1, counts_D[:, None])[:, 0], position_D + counts_D + 1)


def beside(of_prompts: Tensor, of_completions: Sequence[Tensor]) -> Tensor:
    """(D, H, P + T, W) of (D, H, P, W) and of parts with some of the D rows and T tokens at most, padded behind."""
    longest = max(part.shape[2] for part in of_completions)
    own = torch.cat([pad_sides(part, (0, 0, 0, longest - part.shape[2])) for part in of_completions])
    return torch.cat([of_prompts, own], dim=2)


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


def draw(logits_AV: Tensor, temperature: float) -> Tensor:
    """(A,) tokens from the softmax: where one uniform number a row falls among the heaped probabilities."""
    heaped_AV = (logits_AV.float() / temperature).softmax(-1).cumsum(-1)
    falls_A1 = torch.rand(len(heaped_AV), 1, device=heaped_AV.device) * heaped_AV[:, -1:]
    return torch.searchsorted(heaped_AV, falls_A1, right=True)[:, 0].clamp_max(heaped_AV.shape[1] - 1)
