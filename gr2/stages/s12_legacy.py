"""Stage 12: the legacy re-rankers that learn, tuned by an equal budget, and what each says of the held-out slates.

They hear nothing of GR2: its model may be made again, or lack a component, and they stay as they are.

Reads: 01_corpus, 02_sids, 04_slates. Writes: scores.parquet, tuning.json.
Source: each as its module in `baselines` names it; the budget is ours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from gr2.advice.features import Knowledge
from gr2.advice.sample import Sample
from gr2.artifacts import Corpus, SemanticIds, Slates, load_text_vectors, practice_slates
from gr2.baselines import dcn, lambdamart, prm
from gr2.baselines.legacy_scores import LegacyScores
from gr2.baselines.sequence import ANYONE, SEQUENCE, rival_sasrecs
from gr2.baselines.simple import COVISITATION, covisited
from gr2.baselines.tuning import PRACTISED, Parts, Tuned, practise, tune
from gr2.evaluate.propensity import Examination
from gr2.record import stage_folder, write_json
from gr2.retrieve.sasrec import SasrecConfig, pre_ranker_config
from gr2.types import Slate, Split

NAME = "12_legacy"
READS = ("01_corpus", "02_sids", "04_slates")


class Config(BaseModel):
    """Nothing can be set: the budget is the same for every data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def tuned_rankers(
    train: Sequence[Slate],
    valid: Sequence[Slate],
    knowledge: Knowledge,
    seed: int,
    examined: Examination | None,
    practice: Sequence[Slate] = (),
) -> dict[str, Tuned]:
    """LambdaMART, DCN-v2 and PRM, fitted on training slates, each tuned by the same budget on validation slates; and
    where there are practice slates, each with these at hand too."""
    parts = Parts.of(train, valid, knowledge, seed, examined, practice)
    found = {}
    for method in (lambdamart.METHOD, dcn.METHOD, prm.METHOD):
        found[method.name] = tune(method, parts, seed)
        practised = practise(method, parts, found[method.name], seed)
        found |= {method.name + PRACTISED: practised} if practised else {}
    return found


def asked(
    slates: Sequence[Slate], knowledge: Knowledge, tuned: Mapping[str, Tuned], config: SasrecConfig, seed: int
) -> LegacyScores:
    """What co-visitation, SASRecs of their own (with what they say of anyone) and the tuned ones say of the slates."""
    sample = Sample.of(slates, knowledge)
    sequence = rival_sasrecs(knowledge.corpus, config, seed, knowledge.vectors).scores(slates)
    said: dict[str, Sequence[np.ndarray]] = {
        COVISITATION: covisited(slates, knowledge),
        SEQUENCE: [scores_K2[:, 0] for scores_K2 in sequence],
        ANYONE: [scores_K2[:, 1] for scores_K2 in sequence],
        **{name: list(one.fitted.scores(sample)) for name, one in tuned.items()},
    }
    return LegacyScores.of(slates, said)


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids, slates = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1]), Slates.load(run / READS[2])
    train, valid, test = (slates.split(split) for split in (Split.TRAIN, Split.VALID, Split.TEST))
    vectors, examined = load_text_vectors(run / READS[1]), Examination.load(run / READS[2])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        knowledge = Knowledge.of(corpus, seed, vectors, ids.codes)
        tuned = tuned_rankers(train, valid, knowledge, seed, examined, practice_slates(run / READS[2]))
        said = asked([*valid, *test], knowledge, tuned, pre_ranker_config(run / READS[2]), seed)
        said.save(work.path)
        write_json(work.path / "tuning.json", {name: one.record() for name, one in tuned.items()})
        work.counts["slates"] = len(valid) + len(test)
