"""Stage 5: the evidence teacher reasons about the training slates; kept and refused traces, each with its reason.

Its plain rankings of the validation and test slates are saved too, as the reference row of the table: how far
statistics that the student never sees can go.

Reads: 01_corpus, 04_slates. Writes: traces.jsonl, teacher_valid/ and teacher_test/ (rankings.parquet), summary.json.
Source: P1 §3 and P2 §3 (rejection and targeted sampling); the teacher, a program, is ours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gr2.artifacts import Corpus, Rankings, Slates, Traces
from gr2.record import stage_folder, write_json
from gr2.teach.evidence import HISTORY
from gr2.teach.rationale import lexicon
from gr2.teach.sampling import BUCKETS, bucket, draw, rank, rejection, targeted
from gr2.teach.teacher import Opinions, opine
from gr2.types import Split, Trace

NAME = "05_traces"
READS = ("01_corpus", "04_slates")


class Config(BaseModel):
    """The [traces] table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    strategy: Literal["rejection", "targeted"] = "rejection"
    """Whether the teacher must find the target or is shown it and explains it (P1 §3)."""
    attempts: int = Field(8, ge=1)
    """Tries a slate before it is given up, with rejection (ours; P1 names none)."""
    emphasis: float = Field(3.0, ge=1)
    """What one kind of evidence, drawn anew for each attempt after the first, is multiplied by (ours)."""
    temperature: float = Field(0.5, ge=0)
    """Scale of the noise of each attempt after the first; 1 draws from the fitted softmax (ours)."""
    folds: int = Field(5, ge=2)
    """Groups of users for cross-fitting the teacher's weights (ours)."""
    cited_history: int = Field(HISTORY, ge=1, le=HISTORY)
    """Newest history items that a thought may cite; no more than the prompt shows (ours)."""


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What the stage makes."""

    traces: Traces
    rankings: dict[Split, Rankings]
    """The plain teacher's, for validation and test slates."""
    summary: dict[str, Any]


def teach(corpus: Corpus, slates: Slates, config: Config, seed: int) -> Taught:
    """Fit the teacher, sample its traces on training slates and rank the others. UserError without training slates."""
    opinions = opine(corpus, slates.slates, config.folds, seed)
    words = lexicon(corpus.items)
    training = opinions.of(Split.TRAIN)
    refusals = Counter[str]()
    if config.strategy == "rejection":
        tried = draw(training, config.attempts, config.emphasis, config.temperature, seed)
        traces, refusals = rejection(words, training, tried, config.cited_history)
    else:
        traces = targeted(words, training, config.cited_history)
    held_out = {split: opinions.of(split) for split in (Split.VALID, Split.TEST)}
    return Taught(
        traces=Traces(traces=tuple(traces)),
        rankings={
            split: Rankings(ranker=f"teacher_{split.value}", rankings=tuple(rank(words, part, config.cited_history)))
            for split, part in held_out.items()
        },
        summary={
            "teacher": {split.value: first_place(part) for split, part in {Split.TRAIN: training, **held_out}.items()},
            **kept_shares(training, traces),
            "refusals": dict(refusals.most_common()),
        },
    )


def first_place(opinions: Opinions) -> dict[str, float | None]:
    """R@1 of the plain teacher and of the incoming order, given the target is in the slate; None without slates."""
    n = len(opinions.slates)
    hits = sum(order[0] == s.target for order, s in zip(opinions.orders, opinions.slates, strict=True))
    incoming = sum(s.target == 0 for s in opinions.slates)
    return {"n": n, "r_at_1": hits / n if n else None, "r_at_1_incoming": incoming / n if n else None}


def kept_shares(opinions: Opinions, traces: Sequence[Trace]) -> dict[str, Any]:
    """Traces made and kept: of all, by incoming rank of the target, by kind of evidence and by attempt."""
    kept = [trace for trace in traces if trace.kept]
    hard = {name: [t for s, t in zip(opinions.slates, traces, strict=True) if bucket(s) == name] for name in BUCKETS}
    return {
        "n": len(traces),
        "kept": len(kept),
        "kept_share": len(kept) / len(traces),
        "by_incoming_rank": {n: {"n": len(of), "kept": sum(t.kept for t in of)} for n, of in hard.items()},
        "by_evidence": dict(Counter(t.evidence for t in kept).most_common()),
        "by_attempt": dict(sorted(Counter(t.attempt for t in kept).items())),
    }


def main(run: Path, config: Config, seed: int) -> None:
    corpus, slates = Corpus.load(run / READS[0]), Slates.load(run / READS[1])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        taught = teach(corpus, slates, config, seed)
        taught.traces.save(work.path)
        for rankings in taught.rankings.values():
            (work.path / rankings.ranker).mkdir(exist_ok=True)
            rankings.save(work.path / rankings.ranker)
        write_json(work.path / "summary.json", taught.summary)
        work.counts |= {key: taught.summary[key] for key in ("n", "kept", "teacher")}
