"""Stage 11: everything that serving needs, frozen together in one folder that can be copied to another machine.

The model (it ranks at once, and after thinking), the catalogue, the ids, the neighbours, the advisor and bundle.json.
Loading checks digests, so that a bundle whose parts were swapped is refused.

Reads: 01_corpus, 02_sids, 04_slates, 10_direct. Writes: model/, corpus/, sids/, neighbours.safetensors,
advisor.safetensors, advisor.json, bundle.json.
Source: ours.
"""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gr2.advice.advisor import Advisor
from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.lm.checkpoint import Checkpoint
from gr2.record import stage_folder
from gr2.retrieve.neighbours import Neighbours
from gr2.retrieve.popularity import most_popular
from gr2.serve.ranker import Bundle

NAME = "11_bundle"
READS = ("01_corpus", "02_sids", "04_slates", "10_direct")


class Config(BaseModel):
    """What the bundle says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    popular: int = Field(100, ge=0)
    """How many of the most popular items are listed, for callers without candidates (ours)."""


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids, slates = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1]), Slates.load(run / READS[2])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        # Timelines leave the run folder as numbers and counts only, without user ids or held-out events.
        catalogue = replace(corpus, timelines=())
        bundle = Bundle(
            name=run.name,
            corpus=catalogue,
            ids=ids,
            model=Checkpoint.load(run / "10_direct", corpus, ids),
            k=max(len(s.candidates) for s in slates.slates),
            popular=most_popular(corpus, config.popular),
            neighbours=Neighbours.load(run / READS[2]),
            advisor=Advisor.load(run / READS[3], catalogue, ids.codes),
        )
        bundle.save(work.path)
        work.counts["items"] = len(corpus.items)
