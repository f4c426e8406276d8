"""What counts say of a slate's candidates, beside the model's words. (ours)

Weights learn from timelines what they can; a look-up holds the timelines themselves. On Beauty, what follows the newest
event, what sold last week and the likeness of texts say more than a model of a million weights that reads ids, and on
MovieLens-100K the neighbours' votes do (docs/log.md). Their sum costs no training, so a ranker's score is the
log-probability of an id and this advice (`lm.rank`).

Two read the counts. A conditional logit with boosted trees upon it (`logit`, `trees`) looks at each candidate alone; a
small transformer (`prm`) sees the list. Advice is the mean of what they say, both being log-probabilities up to a
constant: a geometric mean of two opinions.

Shapes: S slates, K candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from gr2.advice.counts import Counts, CrossCounts
from gr2.advice.features import SCORES, Knowledge
from gr2.advice.logit import Logit, fit_logit
from gr2.advice.network import Network, Scale, fit_network
from gr2.advice.prm import Prm
from gr2.advice.sample import Sample
from gr2.advice.trees import grow
from gr2.artifacts import Corpus
from gr2.errors import UserError
from gr2.evaluate.propensity import Examination
from gr2.record import read_json, reading, write_json
from gr2.retrieve.folds import held_out_fifth
from gr2.types import Slate

BLOCKS, RATE = 1, 2e-3
"""Of the network, as on Beauty's validation slates (docs/log.md)."""
META, WEIGHTS, VECTORS, NETWORK = "advisor.json", "weights", "vectors", "network/"
FILE, TREES = "advisor.safetensors", "advisor.trees.txt"


@dataclass(frozen=True, kw_only=True)
class Advisor:
    """Two fitted rankers and all that their features are computed from. Written by s10_direct."""

    knowledge: Knowledge
    logit: Logit
    trees: lgb.Booster | None
    """What is added to the logit (`advice.trees`); None where there were too few users."""
    network: Network | None
    """Who sees the list; None where there were too few users."""
    history: int
    """Newest events that it reads: as many as the longest history of a training slate had."""

    def advise(self, slates: Sequence[Slate]) -> tuple[Slate, ...]:
        """The slates with their advice, of mean 0 over a slate. Slates must have their votes."""
        if not slates or not self.logit.names:
            return tuple(replace(s, advice=(0.0,) * len(s.candidates)) for s in slates)
        sample = Sample.of([s.newest(self.history) for s in slates], self.knowledge)
        said_SK, read = self.logit.scores(sample), sample.without(SCORES)
        if self.trees:
            grown_M = np.asarray(self.trees.predict(read.x_SKF[read.real_SK], num_threads=1))
            said_SK[read.real_SK] += grown_M
        if self.network:
            said_SK = (said_SK + self.network.scores(read)) / 2
        said_SK = np.where(read.real_SK, said_SK, 0)
        said_SK -= said_SK.sum(1, keepdims=True) / read.real_SK.sum(1, keepdims=True)
        return tuple(
            replace(s, advice=tuple(row[: len(s.candidates)].tolist())) for s, row in zip(slates, said_SK, strict=True)
        )

    def save(self, folder: Path) -> None:
        """All but the catalogue and the ids. Counts of everyone only: nothing tells one user from another."""
        known = {} if self.knowledge.vectors is None else {VECTORS: self.knowledge.vectors.astype(np.float16)}
        learned = {} if self.network is None else network_tensors(self.network)
        save_file(
            {WEIGHTS: self.logit.weights, **known, **learned, **self.knowledge.counts.everyone.tensors()}, folder / FILE
        )
        if self.trees:
            self.trees.save_model(folder / TREES)
        about = {"names": self.logit.names, "history": self.history, "trees": self.trees is not None}
        write_json(folder / META, about | {"passes": self.network.rounds if self.network else 0})

    @classmethod
    def load(cls, folder: Path, corpus: Corpus, codes: np.ndarray) -> "Advisor":
        """What `save` wrote, for any slates but training slates. Raises UserError when it is not there."""
        meta = read_json(folder / META)
        with reading(folder / FILE):
            tensors = load_file(folder / FILE)
        if not isinstance(meta, dict) or "passes" not in meta or "baskets/data" not in tensors:
            raise UserError(f"{folder / META}: written by an older gr2; make stage 10_direct again")
        with reading(folder / FILE):
            counts = CrossCounts(everyone=Counts.of(tensors), without_fold=(), fold_of={})
            network = network_of(tensors, meta["passes"]) if meta["passes"] else None
        with reading(folder / TREES):
            trees = lgb.Booster(model_str=_whole(folder / TREES)) if meta["trees"] else None
        vectors = tensors[VECTORS].astype(np.float32) if VECTORS in tensors else None
        return cls(
            knowledge=Knowledge(corpus=corpus, counts=counts, vectors=vectors, codes=codes),
            logit=Logit(names=tuple(meta["names"]), weights=tensors[WEIGHTS]),
            trees=trees,
            network=network,
            history=meta["history"],
        )


def _whole(path: Path) -> str:
    """Trees as LightGBM wrote them; those that are cut short would crash it. Raises UserError."""
    text = path.read_text(encoding="utf-8")
    if "\npandas_categorical:" not in text or not text.endswith("\n"):  # the last line that it writes
        raise UserError(f"{path}: cut short; make stage 10_direct again")
    return text


def fit_advisor(
    train: Sequence[Slate], knowledge: Knowledge, seed: int, examination: Examination | None = None
) -> Advisor:
    """Logit, trees and network, all learned from the training slates; nothing is advised where there is none. Clicks of
    logged slates weigh as the chances of their places say, where `examination` knows them."""
    if knowledge.vectors is not None:  # as `save` keeps them: a tree sees the smallest difference
        knowledge = replace(knowledge, vectors=knowledge.vectors.astype(np.float16).astype(np.float32))
    if not train:
        silent = Logit(names=(), weights=np.zeros(0))
        return Advisor(knowledge=knowledge, logit=silent, trees=None, network=None, history=1)
    sample = Sample.of(train, knowledge, examination)
    logit, read = fit_logit(sample), sample.without(SCORES)
    return Advisor(
        knowledge=knowledge,
        logit=logit,
        trees=grow(read, logit.scores(sample)),
        network=learn(read, seed),
        history=max(1, *(len(s.history) for s in train)),
    )


def learn(train: Sample, seed: int) -> Network | None:
    """The network after as many passes as are best on a fifth of the users; None where there are too few of them."""
    outside_S = held_out_fifth(train.slates, seed)
    if not outside_S.any():
        return None
    tried = fit_network(prm, train.at(~outside_S), RATE, seed, train.at(outside_S))
    return fit_network(prm, train, RATE, seed, tried.rounds)


def prm(n_features: int, positions: int) -> Prm:
    return Prm(n_features, positions, BLOCKS)


def network_tensors(network: Network) -> dict[str, np.ndarray]:
    """Its numbers under names; `network_of` reads them again."""
    module = {name: tensor.numpy() for name, tensor in network.module.state_dict().items()}
    scale = {"mean": network.scale.mean_F, "deviation": network.scale.deviation_F}
    return {f"{NETWORK}{name}": array for name, array in (module | scale).items()}


def network_of(tensors: Mapping[str, np.ndarray], rounds: int) -> Network:
    """What `network_tensors` gave."""
    own = {name.removeprefix(NETWORK): array for name, array in tensors.items() if name.startswith(NETWORK)}
    scale = Scale(mean_F=own.pop("mean"), deviation_F=own.pop("deviation"))
    module = prm(len(scale.mean_F), len(own["position.weight"]))
    module.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})
    return Network(module=module, scale=scale, rounds=rounds)


def advice_of(slates: Sequence[Slate]) -> Tensor:
    """(S, K) for slates of one K; zeros where nobody was asked."""
    return torch.tensor([s.advice or (0.0,) * len(s.candidates) for s in slates])
