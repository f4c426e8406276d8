"""The whole ranking from one forward pass: every candidate scored at once (ours).

Where a thought is open, which goes on with the label of the candidate that it arrives at, a candidate's score is the
log-probability of its label. Where it is closed and nothing was thought, it is that of the candidate's id, through a
tree mask: after the text stand the K candidates as K branches. A branch sees the text and itself, not its
siblings, and its position numbers go on from the text's end, so its log-probability is exactly that of
writing this id as the first of the answer. The first code of all branches is read at the text's last
token, so a branch needs only its S - 1 first tokens: K (S - 1) tokens instead of K S decoding steps.
In training the candidates may be scored in the middle of a text, so that one pass serves its words too.

A model that reads features (`lm.feature_reader`) has a branch of the whole id and the candidate's label, where the
features are added and the score is read.

Shapes: B slates, P tokens of text (padded on the left), K candidates, S tokens an id, R tokens a branch, F features, D
width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gr2.lm.batches import pad_left
from gr2.lm.feature_reader import reader_of
from gr2.lm.loss import weighted_nats


@dataclass(frozen=True, kw_only=True)
class TreeBatch:
    """Texts with their candidates as branches."""

    input_ids: Tensor
    """(B, T), T = P + K R."""
    position_ids: Tensor
    """(B, T)"""
    attention_mask: Tensor
    """(B, 1, T, T) additive float mask."""
    spelled: Tensor
    """(B, K, S) token numbers of the candidates; S = 1 where labels are scored."""
    features: Tensor | None
    """(B, K, F) what is added to the last tokens of the branches, for a model that reads it; R = S - 1 without,
    R = S + 1 with it."""
    stem: Tensor
    """(B,) column of the last token that is read before the candidates are scored."""
    text_length: int
    """P"""

    @property
    def ends(self) -> Tensor:
        """(K,) columns of the branches' last tokens."""
        k = self.spelled.shape[1]
        return self.text_length + torch.arange(1, k + 1) * ((self.input_ids.shape[1] - self.text_length) // k) - 1


def tree_batch(
    texts: Sequence[Sequence[int]],
    spelled_BKS: Tensor,
    pad: int,
    stems: Sequence[int] | None = None,
    labels: Sequence[int] = (),
    features_BKF: Tensor | None = None,
) -> TreeBatch:
    """Pad texts on the left and hang the candidates on them. Every slate of a batch has the same K. `stems`: how many
    tokens of each text are read before they are scored; all, if left out. `labels`, the tokens of K labels, and
    features go together."""
    b, k, _ = spelled_BKS.shape
    branches_BKR = spelled_BKS[:, :, :-1]
    if features_BKF is not None:
        branches_BKR = torch.cat([spelled_BKS, torch.tensor(labels)[None, :, None].expand(b, k, 1)], dim=-1)
    p = max(map(len, texts))
    branch = branches_BKR.shape[2]
    t = p + k * branch
    input_ids = torch.full((b, t), pad)
    position_ids = torch.zeros(b, t, dtype=torch.long)
    seen = torch.zeros(b, t, t, dtype=torch.bool)
    stem = torch.full((b,), p - 1)
    causal = torch.ones(p, p, dtype=torch.bool).tril()
    own_branch = torch.block_diag(*[torch.ones(branch, branch).tril()] * k).bool() if branch else None
    for i, text in enumerate(texts):
        n = len(text)
        first, read = p - n, n if stems is None else stems[i]
        stem[i] = first + read - 1
        input_ids[i, first:p] = torch.tensor(text)
        position_ids[i, first:p] = torch.arange(n)
        seen[i, first:p, first:p] = causal[:n, :n]
        if own_branch is not None:
            position_ids[i, p:] = torch.arange(read, read + branch).repeat(k)
            seen[i, p:, first : first + read] = True
            seen[i, p:, p:] = own_branch
    if branch:
        input_ids[:, p:] = branches_BKR.reshape(b, -1)
    seen |= torch.eye(t, dtype=torch.bool)  # padding must see something, or its softmax is NaN
    mask = torch.zeros(b, 1, t, t).masked_fill(~seen[:, None], torch.finfo(torch.float32).min)
    return TreeBatch(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=mask,
        spelled=spelled_BKS,
        features=features_BKF,
        stem=stem,
        text_length=p,
    )


def hidden_states(model: Any, batch: TreeBatch) -> Tensor:
    """(B, T, D) of the one forward pass."""
    device = model.device
    embedded_BTD = model.get_input_embeddings()(batch.input_ids.to(device))
    reader = reader_of(model)
    if reader is not None and batch.features is not None:
        told_BKD = reader.embedded(batch.features.to(device)).to(embedded_BTD.dtype)
        embedded_BTD = embedded_BTD.index_add(1, batch.ends.to(device), told_BKD)
    states: Tensor = model.model(
        inputs_embeds=embedded_BTD,
        position_ids=batch.position_ids.to(device),
        attention_mask=batch.attention_mask.to(device=device, dtype=model.dtype),
    ).last_hidden_state
    return states


def read_candidates(model: Any, hidden_BTD: Tensor, batch: TreeBatch) -> Tensor:
    """(B, K) log-probability of each candidate's id, or label, as the next tokens after the text's stem; of a model
    that reads features, its score behind the label."""
    reader = reader_of(model)
    if reader is not None and batch.features is not None:
        return reader.scores(hidden_BTD[:, batch.ends.to(hidden_BTD.device)])
    spelled, stem = batch.spelled.to(hidden_BTD.device), batch.stem.to(hidden_BTD.device)
    b, k, s = spelled.shape
    at_stem = hidden_BTD[torch.arange(b, device=stem.device), stem]
    logp = model.lm_head(at_stem).float().log_softmax(-1)
    total = logp.gather(-1, spelled[:, :, 0])
    if s > 1:
        logp = model.lm_head(hidden_BTD[:, batch.text_length :]).float().log_softmax(-1)
        branches = logp.view(b, k, s - 1, -1)
        total = total + branches.gather(-1, spelled[:, :, 1:, None])[..., 0].sum(-1)
    return total


def read_words(model: Any, hidden_BTD: Tensor, batch: TreeBatch, weights: Sequence[Sequence[float]]) -> Tensor:
    """Mean over weighted tokens of -log P(token | those before it), in nats, as `loss.weighted_next_token` has it.

    `weights`: one for each token of each text; 0 for a text's first token, which nothing comes before.
    """
    wanted, _ = pad_left(weights, 0.0, torch.float32)
    first = int(wanted.any(0).nonzero()[0])
    logits = model.lm_head(hidden_BTD[:, first - 1 : batch.text_length - 1])
    tokens = batch.input_ids[:, first : batch.text_length].to(logits.device)
    return weighted_nats(logits, tokens, wanted[:, first:].to(logits.device))
