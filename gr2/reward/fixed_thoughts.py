"""Fixed ways to think against the truth that RL pays for: which of them get by without looking at the person? (ours)

    python -m gr2.reward.fixed_thoughts runs/nano

prints the table of docs/rewards.md, measured on the run's kept traces: each thought leads to the teacher's candidate,
and says of the person and the candidate what the policy says.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gr2.artifacts import Corpus, SemanticIds, Slates, Traces
from gr2.errors import UserError, in_one_line
from gr2.lm.checkpoint import Checkpoint
from gr2.reward.truth import BREAK, Truth, Witness
from gr2.teach.rationale import choice
from gr2.types import Slate, Trace

SAMPLE = 2000
"""Traces that are looked at."""
PARTS = ("likes", "next", "reason", "total")
Think = Callable[[Trace], str]


def fixed(traces: Sequence[Trace], genres: Sequence[str]) -> dict[str, Think]:
    """What each policy says in the place of a teacher's thought; citations as a teacher writes them."""
    likes, coming = _commonest(traces, "likes", 3), _commonest(traces, "next", 2)
    everything = " ".join(genres)
    someone_else = dict(zip((t.slate_id for t in traces), [*traces[1:], *traces[:1]], strict=True))
    return {
        "the teacher": lambda t: t.thought,
        "the teacher, about somebody else": lambda t: f"{_said(someone_else[t.slate_id])} {choice(t.order)}",
        "nothing": lambda t: choice(t.order),
        "the same to all, `popular`": lambda t: f"likes {likes} ; next {coming} ; popular {choice(t.order)}",
        "the same to all, `order`": lambda t: f"likes {likes} ; next {coming} ; order {choice(t.order)}",
        "the same to all, `genre` of the newest": (
            lambda t: f"likes {likes} ; next {coming} ; genre [h1] {choice(t.order)}"
        ),
        "the same to all, `co-visits` of the newest": (
            lambda t: f"likes {likes} ; next {coming} ; co-visits [h1] {choice(t.order)}"
        ),
        "every genre, `genre` of the newest": (
            lambda t: f"likes {everything} ; next {everything} ; genre [h1] {choice(t.order)}"
        ),
    }


def try_thoughts(
    witness: Witness, slates: Mapping[str, Slate], traces: Sequence[Trace], genres: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Policy -> mean truth of each part."""
    of = [slates[t.slate_id] for t in traces]
    tried = {}
    for name, think in fixed(traces, genres).items():
        tried[name] = means(witness.check_cited(of, [think(t) for t in traces]))
    return tried


def means(truths: Sequence[Truth]) -> dict[str, float]:
    return {part: float(np.mean([getattr(truth, part) for truth in truths])) for part in PARTS}


def markdown(tried: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """The table."""
    yield f"| says | {' | '.join(PARTS)} |"
    yield "|---" * (1 + len(PARTS)) + "|"
    for name, of_part in tried.items():
        yield f"| {name} | {' | '.join(f'{of_part[part]:.2f}' for part in PARTS)} |"


def _said(trace: Trace) -> str:
    """The thought without the candidate that it leads to, and with the newest event for what it cites."""
    return re.sub(r"\[h\d+\]", "[h1]", trace.thought.removesuffix(choice(trace.order)).strip())


def _commonest(traces: Sequence[Trace], head: str, n: int) -> str:
    """The n commonest words of these steps."""
    steps = (step.split() for t in traces for step in t.thought.split(BREAK))
    counted = Counter(word for step in steps if step[:1] == [head] for word in step[1:])
    return " ".join(word for word, _ in counted.most_common(n))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gr2.reward.fixed_thoughts", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that is mid-trained, for example runs/nano")
    run = parser.parse_args().run
    with in_one_line():
        corpus, ids = Corpus.load(run / "01_corpus"), SemanticIds.load(run / "02_sids")
        kept = Traces.load(run / "05_traces").kept()
        if not kept or any(trace.prompt for trace in kept):
            raise UserError(f"{run}: its traces are not the evidence teacher's; no other's can be checked")
        drawn = np.random.default_rng(0).permutation(len(kept))[:SAMPLE]
        witness = Witness.of(corpus, Checkpoint.load(run / "03_midtrain", corpus, ids).renderer)
        slates = Slates.load(run / "05_traces").by_id
        tried = try_thoughts(witness, slates, [kept[i] for i in drawn], witness.words.genres)
    print("\n".join(markdown(tried)))


if __name__ == "__main__":
    main()
