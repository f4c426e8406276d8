"""What counts say of a slate's candidates, beside the model's words. (ours)

Weights learn from timelines what they can; a look-up holds the timelines themselves. On Beauty, what follows the newest
event, what sold last week and the likeness of texts say more than a model of a million weights that reads ids, and on
MovieLens-100K the neighbours' votes do (docs/log.md). So prompts show the order that this advice gives
(`prompt.render`), the teacher judges by it (`teach.teacher`), and a ranker's score is the log-probability of an id and
the advice (`lm.rank`).

Three read the counts. A conditional logit with boosted trees upon it (`logit`, `trees`) and a network that multiplies
features (`dcn`) look at each candidate alone; a small transformer (`prm`) sees the list. Advice is the mean of what
they say, all being log-probabilities up to a constant: a geometric mean of three opinions.

SASRecs that are told when (`sequence`) know what follows what, and networks that learned from practice slates too
(`practised`) have seen four times as many. They were trained on the targets of training slates, so they are heard on
others only, and what they weigh beside the mean of the three the validation slates say.

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

from gr2.advice.conditional_logit import HARDLY, padded
from gr2.advice.conditional_logit import fit as fit_weights
from gr2.advice.counts import Counts, CrossCounts
from gr2.advice.dcn import Dcn
from gr2.advice.features import SCORES, Knowledge
from gr2.advice.logit import Logit, fit_logit
from gr2.advice.network import Build, Network, Scale, fit_network, network_of, network_tensors, under
from gr2.advice.practised import Practised
from gr2.advice.prm import Prm
from gr2.advice.sample import Sample
from gr2.advice.sequence import Sequences
from gr2.advice.trees import grow
from gr2.artifacts import Corpus
from gr2.errors import UserError
from gr2.progress import track
from gr2.record import read_json, reading, write_json
from gr2.retrieve.folds import held_out_fifth, slate_folds
from gr2.types import Slate

NETWORKS: Mapping[str, tuple[Build, float]] = {
    "prm": (lambda n_features, positions: Prm(n_features, positions, blocks=1), 2e-3),
    "dcn": (lambda n_features, _: Dcn(n_features, crosses=2), 3e-3),
}
"""Name -> what builds one, from the number of features and the longest slate, and its learning rate; as on Beauty's
validation slates (docs/log.md)."""
META, WEIGHTS, VECTORS, SCALE = "advisor.json", "weights", "vectors", "scale"
SEQUENCE, PRACTISED = "sequence", "practised"
FILE, TREES = "advisor.safetensors", "advisor.trees.txt"


@dataclass(frozen=True, kw_only=True)
class Advisor:
    """Three or four fitted rankers and all that their features are computed from. Written by s05_traces, and as it is
    served by s10_direct."""

    knowledge: Knowledge
    logit: Logit
    trees: lgb.Booster | None
    """What is added to the logit (`advice.trees`); None where there were too few users."""
    networks: Mapping[str, Network]
    """By their names in NETWORKS; none where there were too few users."""
    positions: int
    """The longest slate that it learned from."""
    history: int
    """Newest events that it reads: as many as the longest history of a training slate had."""
    sequence: Sequences | None = None
    """Who knows what follows what; None before `hearing`, as on training slates."""
    practised: Practised | None = None
    """Who learned from practice slates too; None before `hearing`, or where there were none."""
    heard: tuple[float, ...] = (1.0,)
    """Weights of the mean of the three; with `sequence`, of what it says behind the history and of anyone; with
    `practised`, of what it says."""
    scale: Scale | None = None
    """How the features are scaled that a model reads beside the advice; None where it reads none."""

    def advise(self, slates: Sequence[Slate]) -> tuple[Slate, ...]:
        """The slates with their advice, of mean 0 over a slate, and where the model reads them their features. Slates
        must have their votes."""
        if not slates:
            return ()
        sample = self._sample(slates)
        return self.hear(self._told(with_advice(slates, self.counted(sample)), sample), sample)

    def tell(self, slates: Sequence[Slate]) -> tuple[Slate, ...]:
        """The slates with the features that the model reads, where it reads any, and no advice: for one that hears
        none. Slates must have their votes."""
        if self.scale is None or not slates:
            return tuple(slates)
        return self._told(slates, self._sample(slates))

    def hear(self, slates: Sequence[Slate], sample: Sample | None = None) -> tuple[Slate, ...]:
        """The slates with what `sequence` and `practised` say, where there are such, beside the advice that they have,
        of the three alone. `sample`: theirs, where it has been made already."""
        if self.sequence is None and self.practised is None:
            return tuple(slates)
        return tuple(
            replace(s, advice=tuple((x_KV @ self.heard).tolist()))
            for s, x_KV in zip(slates, self._voices(slates, sample), strict=True)
        )

    def hearing(
        self,
        sequence: Sequences | None,
        practised: Practised | None,
        slates: Sequence[Slate],
        weights_S: np.ndarray | None = None,
    ) -> "Advisor":
        """With these beside the three, by the weights under which all best say who is taken in the slates, which nobody
        was trained on. Slates must have this one's advice."""
        joined = replace(self, sequence=sequence, practised=practised)
        x_SKV, real_SK = padded(joined._voices(slates))
        targets_S = np.array([s.target for s in slates])
        heard = fit_weights(x_SKV, real_SK, targets_S, HARDLY, weights_S).tolist()
        return replace(joined, heard=tuple(heard))

    def _voices(self, slates: Sequence[Slate], sample: Sample | None = None) -> list[np.ndarray]:
        """(K, V) a slate: the advice that it has and what the others say, less their means."""
        voices = [[np.array(s.advice)[:, None] for s in slates]]
        if self.sequence:
            voices.append(self.sequence.scores([s.newest(self.history) for s in slates]))
        if self.practised:
            said_SK = self.practised.scores(sample or self._sample(slates), self.knowledge.corpus.row)
            voices.append([said_K[: len(s.candidates), None] for s, said_K in zip(slates, said_SK, strict=True)])
        heard = [np.concatenate(parts, axis=1) for parts in zip(*voices, strict=True)]
        return [x_KV - x_KV.mean(0) for x_KV in heard]

    def counted(self, sample: Sample) -> np.ndarray:
        """(S, K) that mean, of mean 0 over a slate; anything where padded; 0 where nothing was learned."""
        if not self.logit.names:
            return np.zeros(sample.real_SK.shape)
        said_SK, read = self.logit.scores(sample), sample.without(SCORES)
        if self.trees:
            grown_M = np.asarray(self.trees.predict(read.x_SKF[read.real_SK], num_threads=1))
            said_SK[read.real_SK] += grown_M
        said_SK = (said_SK + sum(n.scores(read) for n in self.networks.values())) / (1 + len(self.networks))
        said_SK = np.where(read.real_SK, said_SK, 0)
        centred_SK: np.ndarray = said_SK - said_SK.sum(1, keepdims=True) / read.real_SK.sum(1, keepdims=True)
        return centred_SK

    def _sample(self, slates: Sequence[Slate]) -> Sample:
        return Sample.of([s.newest(self.history) for s in slates], self.knowledge)

    def _told(self, slates: Sequence[Slate], sample: Sample) -> tuple[Slate, ...]:
        if self.scale is None:
            return tuple(slates)
        told_SKF = self.scale.arrays(sample.without(SCORES)).x.numpy().astype(np.float16)
        return tuple(replace(s, features=x_KF[: len(s.candidates)]) for s, x_KF in zip(slates, told_SKF, strict=True))

    def save(self, folder: Path) -> None:
        """All but the catalogue and the ids. Counts of everyone only: nothing tells one user from another."""
        known = {} if self.knowledge.vectors is None else {VECTORS: self.knowledge.vectors.astype(np.float16)}
        parts = {name: network_tensors(network) for name, network in self.networks.items()}
        if self.sequence:
            parts[SEQUENCE] = self.sequence.tensors()
        if self.practised:
            parts[PRACTISED] = self.practised.tensors()
        if self.scale:
            parts[SCALE] = self.scale.tensors()
        learned = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.items()}
        counted = self.knowledge.counts.everyone.tensors()
        save_file({WEIGHTS: self.logit.weights, **known, **learned, **counted}, folder / FILE)
        if self.trees:
            self.trees.save_model(folder / TREES)
        write_json(
            folder / META,
            {
                "names": self.logit.names,
                "trees": self.trees is not None,
                "networks": {name: network.rounds for name, network in self.networks.items()},
                "positions": self.positions,
                "history": self.history,
                SEQUENCE: self.sequence.models[0].config.model_dump() if self.sequence else None,
                PRACTISED: {name: n.rounds for name, n in self.practised.networks.items()} if self.practised else None,
                "heard": self.heard,
            },
        )

    @classmethod
    def load(cls, folder: Path, corpus: Corpus, codes: np.ndarray) -> "Advisor":
        """What `save` wrote, for any slates but training slates. Raises UserError when it is not there."""
        meta = read_json(folder / META)
        with reading(folder / FILE):
            tensors = load_file(folder / FILE)
        older = not isinstance(meta, dict) or SEQUENCE not in meta or "baskets/data" not in tensors
        if older or (meta[SEQUENCE] and not under(f"{SEQUENCE}/0", tensors)):
            raise UserError(f"{folder / META}: written by an older gr2; make the stage again")
        with reading(folder / FILE):
            counts = CrossCounts(everyone=Counts.of(tensors), without_fold=(), fold_of={})
            positions = meta["positions"]
            networks = {
                name: network_of(under(name, tensors), NETWORKS[name][0], n, positions)
                for name, n in meta["networks"].items()
            }
            config = meta[SEQUENCE]
            sequence = Sequences.of(under(SEQUENCE, tensors), config, corpus.row) if config else None
            rounds = meta.get(PRACTISED)  # which an advisor of earlier code does not name
            practised = Practised.of(under(PRACTISED, tensors), rounds, positions) if rounds else None
            scaled = under(SCALE, tensors)
            scale = Scale.taken_from(scaled) if scaled else None
        with reading(folder / TREES):
            trees = lgb.Booster(model_str=_whole(folder / TREES)) if meta["trees"] else None
        vectors = tensors[VECTORS].astype(np.float32) if VECTORS in tensors else None
        return cls(
            knowledge=Knowledge(corpus=corpus, counts=counts, vectors=vectors, codes=codes),
            logit=Logit(names=tuple(meta["names"]), weights=tensors[WEIGHTS]),
            trees=trees,
            networks=networks,
            positions=positions,
            history=meta["history"],
            sequence=sequence,
            practised=practised,
            heard=tuple(meta["heard"]),
            scale=scale,
        )


def _whole(path: Path) -> str:
    """Trees as LightGBM wrote them; those that are cut short would crash it. Raises UserError."""
    text = path.read_text(encoding="utf-8")
    if "\npandas_categorical:" not in text or not text.endswith("\n"):  # the last line that it writes
        raise UserError(f"{path}: cut short; make stage 10_direct again")
    return text


def rounded(knowledge: Knowledge) -> Knowledge:
    """With text vectors as `Advisor.save` keeps them: a tree sees the smallest difference."""
    if knowledge.vectors is None:
        return knowledge
    return replace(knowledge, vectors=knowledge.vectors.astype(np.float16).astype(np.float32))


def fit_advisor(train: Sample, knowledge: Knowledge, seed: int) -> Advisor:
    """Logit, trees and networks, all learned from the training slates; nothing is advised where there is none."""
    if not train.slates:
        silent = Logit(names=(), weights=np.zeros(0))
        return Advisor(knowledge=knowledge, logit=silent, trees=None, networks={}, positions=1, history=1)
    logit, read = fit_logit(train), train.without(SCORES)
    return Advisor(
        knowledge=knowledge,
        logit=logit,
        trees=grow(read, logit.scores(train)),
        networks=learn(read, seed),
        positions=read.x_SKF.shape[1],
        history=max(1, *(len(s.history) for s in train.slates)),
    )


def cross_advised(train: Sample, knowledge: Knowledge, seed: int, folds: int) -> tuple[Slate, ...]:
    """The training slates with advice as others will get it: of an advisor that learned from other folds of users. One
    that learned from a slate knows its target too well."""
    fold_S = slate_folds(train.slates, folds, seed)
    said_SK = np.zeros(train.real_SK.shape)
    for number in track(range(folds), "advice, cross-fitted"):
        judged_S = fold_S == number
        if judged_S.any():
            others = fit_advisor(train.at(~judged_S), knowledge, seed)
            said_SK[judged_S] = others.counted(train.at(judged_S))
    return with_advice(train.slates, said_SK)


def with_advice(slates: Sequence[Slate], said_SK: np.ndarray) -> tuple[Slate, ...]:
    """The slates with this advice."""
    return tuple(
        replace(s, advice=tuple(row[: len(s.candidates)].tolist())) for s, row in zip(slates, said_SK, strict=True)
    )


def learn(train: Sample, seed: int) -> dict[str, Network]:
    """Each network after as many passes as are best on a fifth of the users; none where there are too few of them."""
    outside_S = held_out_fifth(train.slates, seed)
    if not outside_S.any():
        return {}
    inside, outside = train.at(~outside_S), train.at(outside_S)
    learned = {}
    for name, (build, rate) in NETWORKS.items():
        tried = fit_network(build, inside, rate, seed, outside)
        learned[name] = fit_network(build, train, rate, seed, tried.rounds)
    return learned


def advice_of(slates: Sequence[Slate]) -> Tensor:
    """(S, K) for slates of one K; zeros where nobody was asked."""
    return torch.tensor([s.advice or (0.0,) * len(s.candidates) for s in slates])
