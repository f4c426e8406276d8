"""Measure a finished run again from its stored rankings, with anybody's answers beside them.

    python -m gr2.evaluate.retest runs/nano again --answers mine=answers.parquet

Writes again/summary.json, again/report.html and again/<ranker>/rankings.parquet. An answers file has `slate_id` and
either `items` (item ids, best first) or `scores` (one a candidate, in incoming order); what is wrong with an answer is
counted and shown, a slate that is not there is `unanswered`. No model is loaded. (ours)
"""

import argparse
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from gr2.artifacts import Corpus, Rankings, Scores, Slates
from gr2.errors import UserError, in_one_line
from gr2.evaluate.answers import from_items, from_scores
from gr2.evaluate.probes import TRUTHS
from gr2.evaluate.propensity import Examination
from gr2.evaluate.report import write_report
from gr2.evaluate.slices import held_out
from gr2.evaluate.table import evaluate
from gr2.record import read_json
from gr2.types import Ranking, Slate, Split

EVALUATION, SHUFFLED = "13_evaluate", "shuffled"


def read_answers(path: Path, slates: Sequence[Slate]) -> list[Ranking]:
    """A ranking of every slate. Raises UserError when the file is not there, or has other columns or slates."""
    try:
        table = pl.read_parquet(path, glob=False)
    except (FileNotFoundError, pl.exceptions.ComputeError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); write slate_id and items, or scores") from None
    kind = "items" if "items" in table.columns else "scores"
    if not {"slate_id", kind} <= set(table.columns):
        raise UserError(f"{path}: columns {table.columns}; give slate_id and either items or scores")
    answers = dict(table.select("slate_id", kind).iter_rows())
    if len(answers) < len(table):
        raise UserError(f"{path}: {len(table) - len(answers)} slates stand there twice; keep one answer of each")
    unasked = answers.keys() - {s.slate_id for s in slates}
    if unasked:
        raise UserError(f"{path}: slate {min(unasked)} is no test slate of this run; leave it out")
    settle = from_items if kind == "items" else from_scores
    return [settle(slate, answers.get(slate.slate_id)) for slate in slates]


def stored(evaluation: Path, below: str = "") -> dict[str, tuple[Ranking, ...]]:
    """Ranker -> the rankings kept in its folder, or in a folder below it."""
    files = sorted(evaluation.glob(f"*/{below}/rankings.parquet" if below else "*/rankings.parquet"))
    return {file.relative_to(evaluation).parts[0]: Rankings.load(file.parent).rankings for file in files}


def check_names(names: Iterable[str], taken: Collection[str]) -> None:
    """Raises UserError where one is a ranker of the run, which it would replace, or names no folder."""
    for name in names:
        if name in taken or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            why = "the run has a ranker of that name" if name in taken else "no name"
            raise UserError(f"--answers {name}: {why}; give NAME=FILE, a new name of letters, digits, _ and -")


def retest(run: Path, out: Path, answers: Mapping[str, Path]) -> Scores:
    """Raises UserError when the run has no evaluation, or an answers file cannot be read."""
    slates = Slates.load(run / "04_slates").split(Split.TEST)
    before = Scores.load(run / EVALUATION)
    kept = stored(run / EVALUATION)
    rankings = {name: list(kept[name]) for name in before.table["given_target"]}
    check_names(answers, rankings)
    rankings |= {name: read_answers(path, slates) for name, path in answers.items()}
    for name, of_one in rankings.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        Rankings(ranker=name, rankings=tuple(of_one)).save(out / name)
    seed = read_json(run / EVALUATION / "record.json")["config"]["seed"]
    scores = evaluate(
        slates,
        read_json(run / "04_slates" / "events.json")[Split.TEST.value],
        rankings,
        before.best_legacy,
        seed,
        held_out=held_out(Corpus.load(run / "01_corpus"), Split.TEST),
        shuffled=stored(run / EVALUATION, SHUFFLED),
        examination=Examination.load(run / "04_slates"),
    )
    # Thoughts are as they were, and to check them again takes the model's words.
    for name, row in before.probes.items():
        scores.probes[name] |= {probe: value for probe, value in row.items() if probe in TRUTHS}
    scores.save(out)
    write_report(run, out / "report.html")
    return scores


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gr2.evaluate.retest", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--answers", action="append", default=[], metavar="NAME=FILE", help="anybody's answers")
    asked = parser.parse_args()
    with in_one_line():
        retest(asked.run, asked.out, {n: Path(f) for n, _, f in (a.partition("=") for a in asked.answers)})
    print(asked.out / "report.html")


if __name__ == "__main__":
    main()
