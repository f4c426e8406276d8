"""A vector an item beside its codes: read with an id, and scored where an id would begin. (ours; LIGER, Yang et al.
2024, joins generative and dense retrieval likewise)

A model that writes ids code by code shares its weights among all items of a kind. What it remembers of a single item
is little, and a pre-ranker that has a vector for each knows better which of one kind follows (docs/log.md). Here the
vector of an item is added to the embedding of its id's last token wherever a prompt or a row of mid-training shows the
whole id, and the item head scores every item by the product of its vector and the hidden state where the history
ends, as SASRec does. Mid-training teaches it by a softmax over the whole catalogue. The vectors start as the principal
components of the items' texts. What the model itself writes, behind `<think>`, is read by its codes alone: it is
decoded token by token.

Shapes: B lines, T tokens, D width, N items, S tokens an id, K candidates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gr2.record import reading
from gr2.retrieve.cross_entropy import catalogue_cross_entropy

START = 0.02
"""Standard deviation of the vectors at the start: all scores start nearly equal, as SASRec's do."""
FILE = "item_head.safetensors"


class ItemHead(nn.Module):
    """One vector an item, in the order of `IdTokens.item_ids`."""

    def __init__(self, embed_ND: Tensor) -> None:
        super().__init__()
        self.embed = nn.Parameter(embed_ND)

    def nats(self, hidden_BD: Tensor, rows_B: Tensor) -> Tensor:
        """Mean of -log P(item) over the catalogue, at each place."""
        return catalogue_cross_entropy(hidden_BD, self.embed.to(hidden_BD.dtype), rows_B)

    def scores(self, hidden_BD: Tensor, rows_BK: Tensor) -> Tensor:
        """(B, K) float32 log-odds of the items in `rows_BK`, up to a number a place."""
        return (hidden_BD[:, None].float() * self.embed[rows_BK].float()).sum(-1)  # a product of matrices would be cast


class ItemEmbedding(nn.Embedding):
    """A model's token embeddings, and on the last token of every id that is read the vector of its item, scaled up as
    SASRec's are where they are read."""

    codes_SV: Tensor
    keys_N: Tensor
    items_N: Tensor

    def __init__(self, plain: nn.Embedding, head: ItemHead, spelled_NS: Tensor, think: int) -> None:
        """`spelled_NS`: token numbers of every item's id; `think`: the token behind which the model writes."""
        super().__init__(plain.num_embeddings, plain.embedding_dim, _weight=plain.weight)
        self.weight, self.head, self.think = plain.weight, head, think
        self.scale = 0.5 * plain.weight.shape[1] ** 0.5
        n_tokens, used = plain.weight.shape[0], [column.unique() for column in spelled_NS.T]
        codes_SV = torch.full((len(used), n_tokens), -1)
        for row, tokens in zip(codes_SV, used, strict=True):
            row[tokens] = torch.arange(len(tokens))
        self.radix = [len(tokens) for tokens in used]
        keys_N, items_N = self._keys([row[tokens] for row, tokens in zip(codes_SV, spelled_NS.T, strict=True)]).sort()
        for name, table in (("codes_SV", codes_SV), ("keys_N", keys_N), ("items_N", items_N)):
            self.register_buffer(name, table, persistent=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        embedded_BTD = super().forward(tokens_BT)
        items_BT = self.items_read(tokens_BT)
        read = items_BT >= 0
        vectors_BTD = self.scale * F.embedding(items_BT.clamp_min(0), self.head.embed) * read[..., None]
        return embedded_BTD + vectors_BTD.to(embedded_BTD.dtype)

    def items_read(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) the item whose id ends at this token, before `<think>`; -1 elsewhere."""
        s = len(self.radix)
        items_BT = torch.full_like(tokens_BT, -1)
        if tokens_BT.shape[1] < s:
            return items_BT
        ends = tokens_BT.shape[1] - s + 1
        parts = [codes[tokens_BT[:, at : at + ends]] for at, codes in enumerate(self.codes_SV)]
        keys = self._keys(parts)
        at = torch.searchsorted(self.keys_N, keys).clamp_max(len(self.keys_N) - 1)
        spoken = (tokens_BT == self.think).cumsum(1) > 0
        whole = torch.stack(parts).ge(0).all(0) & (self.keys_N[at] == keys) & ~spoken[:, s - 1 :]
        items_BT[:, s - 1 :] = torch.where(whole, self.items_N[at], -1)
        return items_BT

    def _keys(self, codes: Sequence[Tensor]) -> Tensor:
        """One number an id."""
        key = torch.zeros_like(codes[0])
        for part, radix in zip(codes, self.radix, strict=True):
            key = key * radix + part
        return key


def start_from_texts(vectors_NT: Tensor, width: int) -> ItemHead:
    """Vectors of `width` whose parts are the texts' principal components, zeros where there are fewer."""
    centred = vectors_NT.float() - vectors_NT.float().mean(0)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    parts = centred @ components[:width].T
    embed_ND = torch.zeros(len(vectors_NT), width)
    embed_ND[:, : parts.shape[1]] = START * parts / parts.std().clamp_min(1e-9)
    return ItemHead(embed_ND)


def start_from_noise(n_items: int, width: int, seed: int) -> ItemHead:
    """Random vectors of the same size."""
    return ItemHead(START * torch.randn(n_items, width, generator=torch.Generator().manual_seed(seed)))


def attach(model: Any, head: ItemHead, spelled_NS: Tensor, think: int) -> None:
    """Make the head part of the language model: whatever trains, copies or moves the one does the other."""
    model.set_input_embeddings(ItemEmbedding(model.get_input_embeddings(), head, spelled_NS, think))


def head_of(model: Any) -> ItemHead | None:
    """The language model's item head, where it has one."""
    embeddings = model.get_input_embeddings()
    return embeddings.head if isinstance(embeddings, ItemEmbedding) else None


def save(model: Any, folder: Path) -> None:
    """Language model and head in files of their own, as others expect to find the former."""
    embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, ItemEmbedding):
        model.save_pretrained(folder)
        return
    n_tokens, width = embeddings.weight.shape
    model.set_input_embeddings(nn.Embedding(n_tokens, width, _weight=embeddings.weight))
    model.save_pretrained(folder)
    model.set_input_embeddings(embeddings)
    save_file({"embed": embeddings.head.embed.detach().contiguous()}, folder / FILE)


def load_into(model: Any, folder: Path, spelled_NS: Tensor, think: int) -> None:
    """Give the model the head that `save` wrote, if it wrote one. Its vectors stay as they are: they were learned from
    all events, and fine-tuning sees some."""
    if (folder / FILE).exists():
        with reading(folder / FILE):
            head = ItemHead(load_file(folder / FILE)["embed"]).requires_grad_(False)
        attach(model, head, spelled_NS, think)
