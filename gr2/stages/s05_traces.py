"""Stage 5: what counts say of each slate, and a teacher reasons about the training slates.

Prompts show the order of the advice (`advice.advisor`) from here on; training slates get that of an advisor that
learned from other users. The teacher is a program that weighs evidence and hears the advice, or a language model
behind an OpenAI-compatible endpoint. Its traces are kept or refused, each with its reason. What the program says of
validation and test slates by its evidence alone is saved in either case, as a reference row of the table.

Reads: 01_corpus, 02_sids, 04_slates. Writes: slates.parquet (with advice), the advisor (advisor.safetensors,
advisor.json), traces.jsonl, teacher_valid/ and teacher_test/ (rankings.parquet), summary.json.
Source: P1 §3 and P2 §3 (a language model, rejection and targeted sampling); the program is ours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gr2.advice.advisor import Advisor, cross_advised, fit_advisor, rounded
from gr2.advice.features import Knowledge
from gr2.advice.sample import Sample
from gr2.artifacts import Corpus, Rankings, SemanticIds, Slates, Traces, load_text_vectors
from gr2.evaluate.propensity import Examination
from gr2.record import stage_folder, write_json
from gr2.teach import llm
from gr2.teach.endpoint import OpenAIConfig
from gr2.teach.evidence import HISTORY
from gr2.teach.rationale import lexicon
from gr2.teach.sampling import BUCKETS, bucket, draw, rank, rejection, targeted
from gr2.teach.teacher import Opinions, opine
from gr2.types import Split, Trace

NAME = "05_traces"
READS = ("01_corpus", "02_sids", "04_slates")
ADVISOR_FOLDS = 3
"""Groups of users for cross-fitting the advice; each costs the training of two networks."""


class Config(BaseModel):
    """The [traces] table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    teacher: Literal["evidence", "openai"] = "evidence"
    """The program, or a language model as [traces.openai] says (P1 §3).
    Emphasis, temperature and folds are the program's."""
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
    openai: OpenAIConfig = OpenAIConfig()
    """The endpoint, its prompt and its budget."""

    @model_validator(mode="after")
    def _openai_is_told_where(self) -> "Config":
        if self.teacher == "openai" and not (self.openai.base_url and self.openai.model):
            raise ValueError('teacher = "openai" needs base_url and model in [traces.openai]')
        return self


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What the stage makes."""

    traces: Traces
    rankings: dict[Split, Rankings]
    """The plain teacher's, for validation and test slates."""
    summary: dict[str, Any]


def teach(
    corpus: Corpus,
    slates: Slates,
    config: Config,
    seed: int,
    tried: llm.Tried | None = None,
    examined: Examination | None = None,
) -> Taught:
    """Fit the program, sample its traces on training slates, which have advice, and rank the others. UserError without
    training slates.

    The traces are instead those of a language model when there is what one has `tried`.
    """
    opinions = opine(corpus, slates.slates, config.folds, seed, examined)
    words = lexicon(corpus.items)
    heard = opinions.hearing()
    training = heard.of(Split.TRAIN)
    refusals = Counter[str]()
    if tried:
        traces, refusals = llm.traces_of(tried)
    elif config.strategy == "rejection":
        attempts = draw(training, config.attempts, config.emphasis, config.temperature, seed)
        traces, refusals = rejection(words, training, attempts, config.cited_history)
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
            "teacher": {split.value: first_place(heard.of(split)) for split in Split},
            **kept_shares(slates, traces),
            "refusals": dict(refusals.most_common()),
            **({"bill": tried.bill} if tried else {}),
        },
    )


def advise(
    run: Path, corpus: Corpus, slates: Slates, seed: int, examined: Examination | None
) -> tuple[Advisor, Slates]:
    """The advisor of all training slates, and the slates with advice, those for training with that of others."""
    codes, vectors = SemanticIds.load(run / READS[1]).codes, load_text_vectors(run / READS[1])
    knowledge = rounded(Knowledge.of(corpus, seed, vectors, codes))
    train = Sample.of(slates.split(Split.TRAIN), knowledge, examined)
    advisor = fit_advisor(train, knowledge, seed)
    crossed = cross_advised(train, knowledge, seed, ADVISOR_FOLDS)
    held_out = advisor.advise([s for s in slates.slates if s.split is not Split.TRAIN])
    advised = {s.slate_id: s for s in (*crossed, *held_out)}
    return advisor, Slates(slates=tuple(advised[s.slate_id] for s in slates.slates))


def first_place(opinions: Opinions) -> dict[str, float | None]:
    """R@1 of the teacher and of the incoming order, given the target is in the slate; None without slates."""
    n = len(opinions.slates)
    hits = sum(order[0] == s.target for order, s in zip(opinions.orders, opinions.slates, strict=True))
    incoming = sum(s.target == 0 for s in opinions.slates)
    return {"n": n, "r_at_1": hits / n if n else None, "r_at_1_incoming": incoming / n if n else None}


def kept_shares(slates: Slates, traces: Sequence[Trace]) -> dict[str, Any]:
    """Traces made and kept: of all, by incoming rank of the target, by kind of evidence and by attempt."""
    kept = [trace for trace in traces if trace.kept]
    hard = {name: [t for t in traces if bucket(slates.by_id[t.slate_id]) == name] for name in BUCKETS}
    return {
        "n": len(traces),
        "kept": len(kept),
        "kept_share": len(kept) / len(traces),
        "by_incoming_rank": {n: {"n": len(of), "kept": sum(t.kept for t in of)} for n, of in hard.items()},
        "by_evidence": dict(Counter(t.evidence for t in kept).most_common()),
        "by_attempt": dict(sorted(Counter(t.attempt for t in kept).items())),
    }


def ask_llm(corpus: Corpus, slates: Slates, config: Config, seed: int) -> llm.Tried | None:
    """What the language model has tried on training slates, if it is the teacher."""
    if config.teacher != "openai":
        return None
    return llm.draw(
        corpus,
        slates.split(Split.TRAIN),
        config.openai,
        attempts=config.attempts,
        target_shown=config.strategy == "targeted",
        cited_history=config.cited_history,
        seed=seed,
    )


def main(run: Path, config: Config, seed: int) -> None:
    corpus, slates = Corpus.load(run / READS[0]), Slates.load(run / READS[2])
    examined = Examination.load(run / READS[2])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        asked = ask_llm(corpus, slates, config, seed)
        advisor, advised = advise(run, corpus, slates, seed, examined)
        advisor.save(work.path)
        advised.save(work.path)
        taught = teach(corpus, advised, config, seed, asked, examined)
        taught.traces.save(work.path)
        for rankings in taught.rankings.values():
            (work.path / rankings.ranker).mkdir(exist_ok=True)
            rankings.save(work.path / rankings.ranker)
        write_json(work.path / "summary.json", taught.summary)
        work.counts |= {key: taught.summary[key] for key in ("n", "kept", "teacher", "bill") if key in taught.summary}
