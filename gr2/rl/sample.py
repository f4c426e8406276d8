"""Rollouts whose prompt is read once for a whole group, whose finished rows soon cost nothing more, and of which what
can be guessed is read at once, not token by token (ours).

Rows that come to the cue of a draft wait for each other. Then one pass reads what each of them is expected to write, a
token is drawn at every place of it, and a row keeps those up to the first that is not the expected one, that one too.
So every token is drawn from the model's own chances, whatever was expected (Leviathan et al. 2023, with a guess in the
place of a smaller model).

Shapes: U prompts of P tokens with G answers each still held, A = U G rows, of which some may have ended; B completions
of at most C tokens; D rows with a guess, of which Q tokens are read in one pass, C rows that go on behind it; V tokens
of the vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gr2.lm.attend import forward
from gr2.lm.batches import pad_left, pad_right
from gr2.rl.held import Held, KeysValues, Uneven


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
    writer.write(rows_B, drawn_B[:, None], torch.ones_like(rows_B))
    starts_B = seen_UP.sum(1).repeat_interleave(group)
    waiting = writer.go_on(held, rows_B, drawn_B, starts_B, draft.cue if draft else None)
    if draft and waiting:
        rows_D, written = torch.cat([rows for rows, _ in waiting]), writer.completions()
        guesses = [  # behind each token that is read one is drawn
            [draft.cue, *draft.guess(prompts[b // group], written[b])][: longest - len(written[b])]
            for b in rows_D.tolist()
        ]
        tokens_DQ = pad_right(guesses, pad).to(model.device)
        tokens_BQ = tokens_DQ.new_full((len(rows_B), tokens_DQ.shape[1]), pad)
        tokens_BQ[rows_D] = tokens_DQ
        wrote_B = torch.zeros_like(rows_B)
        wrote_B[rows_D] = writer.lengths_B[rows_D] - 1  # the cue has not been read
        places_BQ = wrote_B[:, None] + torch.arange(tokens_BQ.shape[1], device=model.device)
        everyone = Uneven(of_prompts, seen_UP.bool(), group, places_BQ, waiting)
        writer.read_at_once(everyone, rows_D, guesses, tokens_BQ, starts_B)
    return writer.completions()


class Writer:
    """Draws tokens and keeps what has been written, row by row."""

    def __init__(self, model: Any, rows: int, longest: int, temperature: float, stops: Sequence[int], pad: int) -> None:
        self.model, self.longest, self.temperature = model, longest, temperature
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

    def ended(self, rows_A: Tensor, token_A: Tensor) -> Tensor:
        """(A,) bool: whether the token that each row wrote last is its last."""
        return torch.isin(token_A, self.stops_S) | (self.lengths_B[rows_A] == self.longest)

    def go_on(
        self, held: Held, rows_A: Tensor, token_A: Tensor, position_A: Tensor, cue: int | None = None
    ) -> list[tuple[Tensor, KeysValues]]:
        """Write on from the tokens that were written last, which stand at these positions, until every row has ended or
        come to the cue; returns the rows that came to it, and what they wrote before it."""
        waiting: list[tuple[Tensor, KeysValues]] = []
        going_A = torch.ones_like(rows_A, dtype=torch.bool)
        while True:
            left_A = going_A & ~self.ended(rows_A, token_A)
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
            self.write(rows_A, token_A[:, None], going_A.long())

    def read_at_once(
        self, held: Uneven, rows_D: Tensor, guesses: Sequence[list[int]], tokens_BQ: Tensor, starts_B: Tensor
    ) -> None:
        """Read what is guessed of these rows, of all B that are held, and finish them. What a row writes starts at the
        position `starts_B`; the first token of its guess has been written."""
        # An item head looks at the tokens before one: what is written is read token by token, here too.
        embedded_BQD = self.model.get_input_embeddings()(tokens_BQ.view(-1, 1)).view(*tokens_BQ.shape, -1)
        read_BQ = starts_B[:, None] + held.places_BQ
        read = forward(self.model, read_BQ, held.attend, inputs_embeds=embedded_BQD)
        tokens_DQ, logits_DQV = tokens_BQ[rows_D], read.logits[rows_D]
        drawn_DQ = draw(logits_DQV.flatten(0, 1), self.temperature).view_as(tokens_DQ)
        guessed_D = torch.tensor([len(guess) - 1 for guess in guesses], device=rows_D.device)
        q_Q = torch.arange(tokens_DQ.shape[1] - 1, device=rows_D.device)
        right_DQ = (drawn_DQ[:, :-1] == tokens_DQ[:, 1:]) & (q_Q < guessed_D[:, None])
        counts_D = (right_DQ & ~torch.isin(drawn_DQ[:, :-1], self.stops_S)).cumprod(1).sum(1)
        self.write(rows_D, drawn_DQ, counts_D + 1)
        last_D = drawn_DQ.gather(1, counts_D[:, None])[:, 0]
        left_D = ~self.ended(rows_D, last_D)
        if left_D.any():
            rows_C, counts_C, last_C = rows_D[left_D], counts_D[left_D], last_D[left_D]
            was_read_C = held.places_BQ[rows_C, counts_C] + 1
            self.go_on(held.alone(rows_C, was_read_C, self.longest), rows_C, last_C, starts_B[rows_C] + was_read_C)


def draw(logits_AV: Tensor, temperature: float) -> Tensor:
    """(A,) tokens from the softmax: where one uniform number a row falls among the heaped probabilities."""
    heaped_AV = (logits_AV.float() / temperature).softmax(-1).cumsum(-1)
    falls_A1 = torch.rand(len(heaped_AV), 1, device=heaped_AV.device) * heaped_AV[:, -1:]
    return torch.searchsorted(heaped_AV, falls_A1, right=True)[:, 0].clamp_max(heaped_AV.shape[1] - 1)
