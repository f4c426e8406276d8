"""Networks that learned from practice slates beside the real ones. (ours)

A pre-ranker's top K holds the targets of few events, so real slates are few. Practice slates (`stages.s04_slates`) hold
targets of lists of 50; on Beauty there are four times as many, and networks that learn from both say more than those of
the real ones alone, most so where they read histories (docs/log.md). Two PRMs over the features (`prm`) and two that
attend to the newest events too (`din`) are asked; what they say is the mean of their log-probabilities.

Shapes: S slates, K candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from gr2.advice.din import Din
from gr2.advice.features import SCORES, Knowledge
from gr2.advice.network import Build, Network, fit_network, network_of, network_tensors, under
from gr2.advice.past import Past, principal
from gr2.advice.prm import Prm
from gr2.advice.sample import Sample
from gr2.progress import track
from gr2.retrieve.folds import held_out_fifth
from gr2.types import Slate

TEXTS = "texts"
RATE = 2e-3
SEEDS = 2
"""Networks of each kind; they differ by their random numbers."""
KINDS: Mapping[str, Callable[..., nn.Module]] = {
    "prm": lambda n_features, positions, texts: Prm(n_features, positions, blocks=1),
    "din": Din,
}
"""Name -> what builds one, from the number of features, the longest slate and the width of the texts."""


@dataclass(frozen=True, kw_only=True)
class Practised:
    """The networks, and what they read of texts."""

    networks: Mapping[str, Network]
    """By kind and number."""
    texts_ND: Tensor
    """Of the catalogue's items (`past.principal`)."""

    def scores(self, sample: Sample, row: Mapping[str, int]) -> np.ndarray:
        """(S, K) nats, of mean 0 over a slate; anything where padded. `row`: item id -> row of the catalogue."""
        read, real_SK = reading(sample, row, self.texts_ND), torch.from_numpy(sample.real_SK)
        said = [torch.from_numpy(network.scores(seen_by(name, read))) for name, network in self.networks.items()]
        log_shares = [log_softmax(scores_SK.masked_fill(~real_SK, -1e9), 1) for scores_SK in said]
        said_SK = torch.stack(log_shares).mean(0).where(real_SK, 0)
        centred_SK: np.ndarray = (said_SK - said_SK.sum(1, keepdim=True) / real_SK.sum(1, keepdim=True)).numpy()
        return centred_SK

    def tensors(self) -> dict[str, np.ndarray]:
        """Their numbers under names; `of` reads them again."""
        parts = {name: network_tensors(network) for name, network in self.networks.items()}
        found = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.items()}
        return found | {TEXTS: self.texts_ND.numpy()}

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], rounds: Mapping[str, int], positions: int) -> Self:
        """What `tensors` gave. `rounds`: name of each network -> passes over the slates that made it. `positions`: the
        longest slate that they learned from."""
        texts_ND = torch.from_numpy(tensors[TEXTS])
        networks = {
            name: network_of(under(name, tensors), builder(name, texts_ND), n, positions) for name, n in rounds.items()
        }
        return cls(networks=networks, texts_ND=texts_ND)


def builder(name: str, texts_ND: Tensor) -> Build:
    """What builds the network of this name, a kind and a number."""
    return partial(KINDS[name.partition("-")[0]], texts=texts_ND.shape[1])


def reading(sample: Sample, row: Mapping[str, int], texts_ND: Tensor) -> Sample:
    """The sample as these networks read it: without the pre-ranker's scores, and with the past."""
    return replace(sample.without(SCORES), past=Past.of(sample.slates, row, texts_ND))


def seen_by(name: str, sample: Sample) -> Sample:
    """What the network of this name reads: a PRM none of the past."""
    return replace(sample, past=None) if name.startswith("prm") else sample


def learn_practised(
    train: Sequence[Slate], practice: Sequence[Slate], knowledge: Knowledge, seed: int
) -> Practised | None:
    """Each network learns from both for as many passes as are best on the real slates of a fifth of the users; None
    where there are too few users for that. Raises ValueError when `knowledge` has no text vectors."""
    if knowledge.vectors is None:
        raise ValueError("these networks read texts, and this knowledge has no text vectors")
    texts_ND = principal(knowledge.vectors)
    both = reading(Sample.of([*train, *practice], knowledge), knowledge.corpus.row, texts_ND)
    outside_S, real_S = held_out_fifth(both.slates, seed), np.arange(len(both.slates)) < len(train)
    if not (outside_S & real_S).any():
        return None
    inside, outside = both.at(~outside_S), both.at(outside_S & real_S)
    names = [f"{kind}-{number}" for kind in KINDS for number in range(SEEDS)]
    networks: dict[str, Network] = {}
    for number, name in enumerate(track(names, "networks of practice slates")):
        build, first = builder(name, texts_ND), networks.get(f"{name.partition('-')[0]}-0")
        rounds = (first or fit_network(build, seen_by(name, inside), RATE, seed, seen_by(name, outside))).rounds
        networks[name] = fit_network(build, seen_by(name, both), RATE, seed + number, rounds)
    return Practised(networks=networks, texts_ND=texts_ND)
