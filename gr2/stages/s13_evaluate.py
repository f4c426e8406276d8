"""Stage 13: every ranker on the same test slates, with intervals, paired tests and probes, and the report.

The best legacy re-ranker is named by the validation slates, before a test slate is looked at. GR2 appears in its
stages (after SFT, after RL, as it is served), so that one sees what each adds, on validation too (valid.json).

Reads: all stages before it. Writes: <ranker>/rankings.parquet, <ranker>/shuffled/rankings.parquet,
summary.json, valid.json, stack.json, free_answers.json, report.html. Source: P1's protocol; the rest is ours.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gr2.artifacts import Corpus, Rankings, SemanticIds, Slates, Traces
from gr2.baselines.category_thought import rank_by_category_thought
from gr2.baselines.legacy_scores import LegacyScores
from gr2.baselines.plain_llm import rank_plainly
from gr2.baselines.sequence import ANYONE
from gr2.baselines.simple import COVISITATION, rank_by_advice, rank_by_votes, rank_incoming, rank_popular
from gr2.baselines.stack import Stack, learned, rank_by_folds, stack
from gr2.device import home
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.propensity import Examination, mean_metrics, weights_of
from gr2.evaluate.report import write_report
from gr2.evaluate.slices import held_out
from gr2.evaluate.table import INCOMING, evaluate
from gr2.lm.checkpoint import Checkpoint, is_checkpoint
from gr2.lm.generate import Budget
from gr2.lm.pretrained import load_pretrained
from gr2.lm.rank import rank_by_thinking, rank_by_writing, rank_in_one_pass
from gr2.record import read_json, stage_folder, write_json
from gr2.reward.truth import Truth, Witness
from gr2.rl.shown import as_it_came, shown_as
from gr2.serve.ranker import Bundle
from gr2.types import Ranking, Slate, Split

NAME = "13_evaluate"
READS = (
    "01_corpus",
    "02_sids",
    "03_midtrain",
    "04_slates",
    "05_traces",
    "06_sft",
    "07_opd",
    "08_rl",
    "10_direct",
    "11_bundle",
    "12_legacy",
)


Ranker = Callable[[Sequence[Slate]], list[Ranking]]


class Config(BaseModel):
    """What is measured beside the table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    free_answers: int = Field(512, ge=1)
    """Test slates whose answers are also written without constraint, to count the valid ones (ours)."""
    shuffled: int = Field(256, ge=1)
    """Test slates that every GR2 ranker is also asked with the candidates in a random order (ours)."""
    plain_llm: str | None = None
    """A pretrained language model that ranks the test slates zero-shot, from titles alone: "smollm2-135m", or the path
    of a local Hugging Face folder; never the best legacy re-ranker. Left out: no such row (ours)."""


def legacy_rankers(corpus: Corpus, said: LegacyScores, together: Stack) -> dict[str, Ranker]:
    """Incoming order, three rankers that learn nothing, the advice alone, a rival's SASRecs, the tuned ones, and all in
    one."""

    def by_its_scores(name: str) -> Ranker:
        return lambda slates: said.rank(name, slates)

    return {
        INCOMING: rank_incoming,
        "popularity": lambda slates: rank_popular(slates, corpus),
        COVISITATION: by_its_scores(COVISITATION),
        "neighbours": rank_by_votes,
        "advice": rank_by_advice,
        **{name: by_its_scores(name) for name in learned(said) if name != ANYONE},
        "stack": together.rank,
    }


def plain_llm(name: str | None, corpus: Corpus) -> dict[str, Ranker]:
    """The pretrained language model as it is, where there is one."""
    if name is None:
        return {}
    model, tokenizer = load_pretrained(name)
    model.to(home())
    items = {item.item_id: item for item in corpus.items}
    return {"plain_llm": lambda slates: rank_plainly(slates, items, model, tokenizer, "plain LLM")}


def gr2_rankers(
    midtrained: Checkpoint, tuned: Checkpoint, distilled: Checkpoint | None, rewarded: Checkpoint, served: Checkpoint
) -> dict[str, Ranker]:
    """GR2 as it grows: the mid-trained model's own likelihood, at once and behind a category thought, after SFT, after
    on-policy distillation where there was any, after RL, and the served model, both ways."""

    def at_once(checkpoint: Checkpoint, label: str) -> Ranker:
        return lambda slates: rank_in_one_pass(checkpoint, slates, batch_size=64, label=label)

    def thinking(checkpoint: Checkpoint, label: str) -> Ranker:
        return lambda slates: rank_by_thinking(checkpoint, slates, budget=Budget(), label=label)

    return {
        "midtrained_likelihood": at_once(midtrained, "likelihood"),
        "midtrained_category_thought": lambda slates: rank_by_category_thought(
            midtrained, slates, batch_size=64, label="category thought"
        ),
        "gr2_sft_thinking": thinking(tuned, "SFT, thinking"),
        "gr2_sft_direct": at_once(tuned, "SFT, direct"),
        **({"gr2_opd_thinking": thinking(distilled, "OPD, thinking")} if distilled else {}),
        "gr2_rl_thinking": thinking(rewarded, "RL, thinking"),
        "gr2_thinking": thinking(served, "thinking"),
        "gr2_direct": at_once(served, "direct"),
    }


def best_on_validation(
    slates: Sequence[Slate],
    rankings: Mapping[str, Sequence[Ranking]],
    names: Sequence[str],
    examined: Examination | None,
) -> str:
    """The ranker with the highest mean of R@1 and N@3 on validation slates, debiased where slates are logged and the
    chances of their places known."""

    def value(name: str) -> float:
        metrics = mean_metrics(slates, rankings[name], examined)
        return metrics["R@1"] + metrics["N@3"]

    return max(names, key=value)


def shuffled_orders(slates: Sequence[Slate], seed: int) -> list[list[int]]:
    """A random order of each slate's candidates."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(len(s.candidates)).tolist() for s in slates]


def shuffled_slates(slates: Sequence[Slate], orders: Sequence[Sequence[int]], bundle: Bundle) -> list[Slate]:
    """The slates shown in these orders. Advice reads places, so it is asked for again."""
    shown = [shown_as(s, order) for s, order in zip(slates, orders, strict=True)]
    return bundle.advised([replace(s, advice=()) for s in shown])


def free_answers(checkpoint: Checkpoint, slates: Sequence[Slate], label: str) -> dict[str, object]:
    """What the thinking model writes when nothing holds it: n, share of valid answers, count per status."""
    rankings = rank_by_writing(checkpoint, slates, constrained=False, budget=Budget(), label=label)
    counts = Counter(r.status.value for r in rankings)
    return {"n": len(rankings), "valid_share": counts["valid"] / len(rankings), "statuses": dict(counts)}


def truths_of(
    witness: Witness, slates: Sequence[Slate], rankings: Mapping[str, Sequence[Ranking]]
) -> dict[str, dict[str, Truth]]:
    """Ranker -> slate_id -> the truth of its thought; of the teacher and of those that reason as it does."""
    found = {}
    for name, answers in rankings.items():
        if name == "teacher" or name.endswith("_thinking"):
            truths = witness.check_cited(slates, [r.thought for r in answers])
            found[name] = {s.slate_id: t for s, t in zip(slates, truths, strict=True)}
    return found


def save_rankings(folder: Path, name: str, rankings: Sequence[Ranking]) -> None:
    folder.mkdir(exist_ok=True)
    Rankings(ranker=name, rankings=tuple(rankings)).save(folder)


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids, slates = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1]), Slates.load(run / "10_direct")
    valid, test = slates.split(Split.VALID), slates.split(Split.TEST)
    midtrained = Checkpoint.load(run / "03_midtrain", corpus, ids)
    tuned = Checkpoint.load(run / "06_sft", corpus, ids)
    distilled = Checkpoint.load(run / "07_opd", corpus, ids) if is_checkpoint(run / "07_opd") else None
    rewarded = Checkpoint.load(run / "08_rl", corpus, ids)
    bundle = Bundle.load(run / "11_bundle")
    said = LegacyScores.load(run / "12_legacy")
    plain = plain_llm(config.plain_llm, corpus)
    examined = Examination.load(run / "04_slates")
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        counts_S = weights_of(valid, examined)
        together = stack(valid, said, counts_S)
        legacy = legacy_rankers(corpus, said, together)
        gr2 = gr2_rankers(midtrained, tuned, distilled, rewarded, bundle.model)
        on_valid = {name: ranker(valid) for name, ranker in (legacy | gr2).items()}
        on_valid["stack"] = rank_by_folds(valid, said, seed, counts_S)  # elsewhere it would be judged on what it fits
        on_test = {name: ranker(test) for name, ranker in (legacy | plain | gr2).items()}
        orders = shuffled_orders(test[: config.shuffled], seed)
        shown = shuffled_slates(test[: config.shuffled], orders, bundle)
        shuffled = {
            name: [as_it_came(r, o) for r, o in zip(ranker(shown), orders, strict=True)] for name, ranker in gr2.items()
        }
        for split, rankings in (("valid", on_valid), ("test", on_test)):
            rankings["teacher"] = list(Rankings.load(run / "05_traces" / f"teacher_{split}").rankings)
        without_words = [*(name for name in legacy if name != INCOMING), "teacher"]
        best = best_on_validation(valid, on_valid, without_words, examined)
        for name, answers in on_test.items():
            save_rankings(work.path / name, name, answers)
        for name, answers in shuffled.items():
            save_rankings(work.path / name / "shuffled", name, answers)
        events = read_json(run / "04_slates" / "events.json")["test"]
        described = held_out(corpus, Split.TEST)
        in_checked_words = not any(trace.prompt for trace in Traces.load(run / "05_traces").traces)
        truths = truths_of(Witness.of(corpus, tuned.renderer), test, on_test) if in_checked_words else None
        scores = evaluate(
            test,
            events,
            on_test,
            best,
            seed,
            held_out=described,
            shuffled=shuffled,
            examination=examined,
            truths=truths,
        )
        scores.save(work.path)
        write_json(work.path / "stack.json", together.record())
        write_json(
            work.path / "valid.json",
            {n: {m: float(v.mean()) for m, v in per_slate(valid, r).items()} for n, r in on_valid.items()},
        )
        asked = test[: config.free_answers]
        write_json(
            work.path / "free_answers.json",
            {
                "sft_thinking": free_answers(tuned, asked, "free answers, SFT"),
                "rl_thinking": free_answers(rewarded, asked, "free answers, RL"),
            },
        )
        work.counts |= {"slates_test": len(test), "best_legacy": best}
        write_report(run, work.path / "report.html")
