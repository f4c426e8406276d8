"""Log-probabilities of completions whose prompts are read once, however many completions each has (ours).

TRL reads prompt and completion of every rollout, padding and all: G times the same prompt. Here all tokens stand
behind each other in one row, each distinct prompt once and no padding, so that every layer works on N tokens; only
attention spreads them out, and lends the keys and values of a prompt, with gradient, to its completions.

Shapes: U distinct prompts, B rollouts, P prompt tokens (padded on the left), C completion tokens (on the right), N real
tokens that are read, all but the last of each rollout; M that are written; V tokens of the vocabulary.
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
    seen_UP, real_BC = prompts_UP != pad, mask_BC.bool()
    read_BR = real_BC[:, 1:]  # R = C - 1: a token is read where another is written behind it
    pack = Pack(seen_UP, of_B, read_BR)
    embed = model.get_input_embeddings()
    # An item head looks at the tokens before one, so no prompt may stand before another here, and what is written is
    # read token by token, as it was when it was sampled.
    written_ND = embed(completions_BC[:, :-1][read_BR][:, None])[:, 0]
    embedded_ND = torch.cat([embed(prompts_UP)[seen_UP], written_ND])
    read = forward(model.base_model, pack.positions_N[None], pack.attend, inputs_embeds=embedded_ND[None])
    hidden_ND = read.last_hidden_state[0]
    before_BC = torch.cat([pack.prompts_UP[of_B, -1:], pack.own_BR], dim=1)
    logp_MV = (model.get_output_embeddings()(hidden_ND[before_BC[real_BC]]).float() / temperature).log_softmax(-1)
    logp_M = logp_MV.gather(-1, completions_BC[real_BC][:, None])[:, 0]
    with torch.no_grad():
        entropy_M = -(logp_MV.exp() * logp_MV).sum(-1)
    zeros_BC = torch.zeros_like(completions_BC, dtype=logp_M.dtype)
    return zeros_BC.masked_scatter(real_BC, logp_M), zeros_BC.masked_scatter(real_BC, entropy_M)


class Pack:
    """Where each token stands in the row, and who sees whom."""

    def __init__(self, seen_UP: Tensor, of_B: Tensor, read_BR: Tensor) -> None:
        """`seen_UP` and `read_BR` are true on tokens, false on padding."""
        real = torch.cat([seen_UP.flatten(), read_BR.flatten()])
        place = (real.cumsum(0) - 1).clamp_min(0)  # padding has the place of some token
        self.prompts_UP, self.own_BR = (
            part.view_as(like)
            for part, like in zip(place.split([seen_UP.numel(), read_BR.numel()]), (seen_UP, read_BR), strict=True)
        )
        self.keys_BT = torch.cat([self.prompts_UP[of_B], self.own_BR], dim=1)
        self.tokens_N = real.nonzero()[:, 0]
        """Of all places of prompts and completions those of tokens."""
        within_UP = seen_UP.cumsum(1) - 1
        behind_BR = seen_UP.sum(1)[of_B, None] + torch.arange(read_BR.shape[1], device=of_B.device)
        self.positions_N = torch.cat([within_UP[seen_UP], behind_BR[read_BR]])
        b, r = read_BR.shape
        past_RR = torch.ones(r, r, dtype=torch.bool, device=of_B.device).tril()
        self.seen_UPP = seen_before(seen_UP)
        self.seen_BRT = torch.cat([seen_UP[of_B, None].expand(-1, r, -1), past_RR.expand(b, r, r)], dim=-1)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Prompts see themselves; completions their prompt and themselves."""
        reads = ((self.prompts_UP, self.prompts_UP, self.seen_UPP), (self.own_BR, self.keys_BT, self.seen_BRT))
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
