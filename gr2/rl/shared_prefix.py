"""Log-probabilities of completions whose prompts are read once, however many completions each has, and so is what
several completions of a prompt begin with (ours).

TRL reads prompt and completion of every rollout, padding and all: G times the same prompt. Here all tokens stand
behind each other in one row, each distinct prompt once, each distinct beginning of its completions once and no padding,
so that every layer works on N tokens; only attention spreads them out, and lends the keys and values of a prompt, with
gradient, to its completions.

Shapes: U distinct prompts, B rollouts, D of them that differ in what is read, P prompt tokens (padded on the left), C
completion tokens (on the right), R = C - 1 of which are read, since a token is read where another is written behind it;
N real tokens that are read, K of them with a written one behind them; M that are written; V tokens of the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from gr2.lm.attend import attention, forward, seen_before


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
    real_BC = mask_BC.bool()
    pack = Pack(prompts_UP != pad, of_B, completions_BC[:, :-1], real_BC[:, 1:])
    embed = model.get_input_embeddings()
    # An item head looks at the tokens before one, so no prompt may stand before another here, and what is written is
    # read token by token, as it was when it was sampled.
    written_ND = embed(pack.written_N[:, None])[:, 0]
    embedded_ND = torch.cat([embed(prompts_UP)[pack.seen_UP], written_ND])
    read = forward(model.base_model, pack.positions_N[None], pack.attend, inputs_embeds=embedded_ND[None])
    hidden_KD = read.last_hidden_state[0][pack.places_K]
    logp_KV = (model.get_output_embeddings()(hidden_KD).float() / temperature).log_softmax(-1)
    before_M = pack.before_BC[real_BC]
    logp_M = logp_KV[before_M, completions_BC[real_BC]]
    with torch.no_grad():
        entropy_M = -(logp_KV.exp() * logp_KV).sum(-1)[before_M]
    zeros_BC = torch.zeros_like(completions_BC, dtype=logp_M.dtype)
    return zeros_BC.masked_scatter(real_BC, logp_M), zeros_BC.masked_scatter(real_BC, entropy_M)


class Pack:
    """Where each token stands in the row, and who sees whom."""

    def __init__(self, seen_UP: Tensor, of_B: Tensor, tokens_BR: Tensor, read_BR: Tensor) -> None:
        """`seen_UP` and `read_BR` are true on tokens, false on padding."""
        # In order, so that completions that begin alike are neighbours.
        rows = torch.cat([of_B[:, None], tokens_BR.masked_fill(~read_BR, -1)], dim=1)
        rows, row_B = rows.unique(dim=0, return_inverse=True)
        of_D, tokens_DR = rows[:, 0], rows[:, 1:]
        read_DR, (d, r) = tokens_DR >= 0, tokens_DR.shape
        repeats_DR = torch.zeros_like(read_DR)
        repeats_DR[1:] = (rows[1:] == rows[:-1]).cumprod(1)[:, 1:].bool()
        first_DR = read_DR & ~repeats_DR
        owner_DR = torch.arange(d, device=of_B.device)[:, None].masked_fill(repeats_DR, 0).cummax(0).values
        self.seen_UP, self.written_N = seen_UP, tokens_DR[first_DR]
        real = torch.cat([seen_UP.flatten(), first_DR.flatten()])
        place = (real.cumsum(0) - 1).clamp_min(0)  # padding has the place of some token
        self.prompts_UP, first_places_DR = (
            part.view_as(like)
            for part, like in zip(place.split([seen_UP.numel(), d * r]), (seen_UP, read_DR), strict=True)
        )
        self.own_DR = first_places_DR.gather(0, owner_DR)
        self.keys_DT = torch.cat([self.prompts_UP[of_D], self.own_DR], dim=1)
        self.tokens_N = real.nonzero()[:, 0]
        """Of all places of prompts and completions those of tokens."""
        within_UP = seen_UP.cumsum(1) - 1
        behind_DR = seen_UP.sum(1)[of_D, None] + torch.arange(r, device=of_B.device)
        self.positions_N = torch.cat([within_UP[seen_UP], behind_DR[first_DR]])
        past_RR = torch.ones(r, r, dtype=torch.bool, device=of_B.device).tril()
        self.seen_UPP = seen_before(seen_UP)
        self.seen_DRT = torch.cat([seen_UP[of_D, None].expand(-1, r, -1), past_RR.expand(d, r, r)], dim=-1)
        prompt_tokens, n = len(self.tokens_N) - len(self.written_N), len(self.tokens_N)
        self.places_K = torch.cat([self.prompts_UP[:, -1], torch.arange(prompt_tokens, n, device=of_B.device)])
        """Each prompt's last token, and all of completions."""
        behind_prompts = self.own_DR[row_B] - prompt_tokens + len(seen_UP)
        self.before_BC = torch.cat([of_B[:, None], behind_prompts], dim=1)
        """Of those K the one that each token of the rollouts is written behind."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Prompts see themselves; completions their prompt and themselves."""
        reads = ((self.prompts_UP, self.prompts_UP, self.seen_UPP), (self.own_DR, self.keys_DT, self.seen_DRT))
        spread = [
            attention(take(query, asking), take(key, asked), take(value, asked), seen, scale)
            for asking, asked, seen in reads
        ]
        rows = torch.cat([part.transpose(1, 2).flatten(0, 1).flatten(1) for part in spread])
        return embedding(self.tokens_N, rows).view(1, len(self.tokens_N), *spread[0].shape[1::2])


def take(row: Tensor, places_BT: Tensor) -> Tensor:
    """(B, heads, T, width) at these places of (1, heads, N, width): as an embedding, whose gradient is quick."""
    _, heads, n, width = row.shape
    return embedding(places_BT, row.transpose(1, 2).reshape(n, -1)).view(*places_BT.shape, heads, width).transpose(1, 2)
