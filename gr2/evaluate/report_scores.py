"""The report's tables and pictures of scores: both protocols, gains, slices, probes."""

from collections.abc import Iterator, Mapping
from html import escape

from gr2.artifacts import MetricValue, Scores
from gr2.evaluate import plots
from gr2.evaluate.headline import DEBIASED, bare, label, relative
from gr2.evaluate.html import bars, details, first_cell, grid, kind, table
from gr2.evaluate.metrics import MEASURES
from gr2.evaluate.propensity import CLIP, Examination

GAINS = ("R@1", "N@3")
"""Metrics that are drawn as forests."""
PROBES = {
    "echo_share": "echo",
    "tail_only_share": "tail only",
    "tau_to_incoming": "tau",
    "first_stays_share": "first stays",
    "shuffle_same_first": "same first, shuffled",
    "shuffle_tau": "tau, shuffled",
    "tail_swap_profit": "tail-swap profit",
    "invalid_share": "invalid",
    "repaired_share": "repaired",
    "tied_share": "tied",
}
"""Probe -> heading."""
TRUTH = {"truth": "whole", "truth_likes": "likes", "truth_next": "next", "truth_reason": "reason"}
"""The same, of what thoughts say."""
NUMBERS = {"tau_to_incoming", "shuffle_tau", "tail_swap_profit", *TRUTH}
"""Probes that are no shares."""
TABLE_NOTE = (
    "Below each value its 95 % interval (bootstrap over users), then the change to the incoming order (in) and to the "
    "best legacy re-ranker, {legacy} (leg), in brackets its paired p after Holm's correction over the table: McNemar's "
    "test for R@1, bootstrap for the others. Coloured: below .05. summary.json has the p before correction."
)
DEBIASED_NOTE = (
    "The {n:,} slates of the first table, each click weighted by 1 / the chance that its place is looked at, at most "
    "{clip:g}, over the sum of the weights: a click low in the list stands for others that nobody saw. Chances of the "
    "places, {source}: {chances}. Tests: paired bootstrap, Holm's correction over this table. A click below the last "
    "place has no known weight, so there is no end-to-end form."
)
SLICES_NOTE = (
    "As in the tables above, for a part of the events at a time; the third line is the difference to the incoming "
    "order, Holm's correction is over all slices and metrics. Slices are small: most differences in them are chance. "
    "Where the target came in decides the incoming order's own values: compare those rows between the other rankers."
)
PROBES_NOTE = (
    "Bars: where the first items came in, places 1 to {k}; ticks: where the targets did. echo: answers equal to the "
    "incoming order. tail only: the first three places kept, the rest moved. tau: Kendall's, to the incoming order (1: "
    "equal, 0: unrelated). first stays: the first item came in first. shuffled: agreement with the answer to the same "
    "slate shown in another order. tail-swap profit: what Eq. 7 of P2 would pay for tail-only answers beyond an echo's "
    "pay. invalid: no ranking, so the incoming order counts in its place. repaired: invalid, and yet not the incoming "
    "order. tied: equal scores, among which the incoming order decided."
)

TRUTH_NOTE = (
    "How much of what is said the log and the catalogue bear out, 1 all of it: of the person's taste (likes), of the "
    "candidate (next), and of the event that is cited (reason), which has to tell the candidate from the others. A "
    "reason that cites nothing counts 0."
)


def scores_table(scores: Scores, protocol: str) -> str:
    """Every ranker and metric of one protocol."""
    rankers = scores.table[protocol]
    base, legacy = rankers["incoming"], rankers[scores.best_legacy]
    rows = []
    for name, row in rankers.items():
        cells = [
            value_cell(value)
            + change("in", value, base[m], "incoming")
            + change("leg", value, legacy[m], "best_legacy")
            for m, value in row.items()
        ]
        rows.append((first_cell(name, "best legacy, by validation" * (name == scores.best_legacy)), cells, kind(name)))
    return table(["ranker", *base], rows)


def debiased_table(scores: Scores, examined: Examination | None) -> tuple[str, list[str]]:
    """The note and the table of logged slates; nothing where their places' chances are not known."""
    if DEBIASED not in scores.table or examined is None or examined.propensities is None:
        return "", []
    chances = " ".join(f"{chance:.2f}" for chance in examined.propensities)
    note = DEBIASED_NOTE.format(n=scores.n_slates, clip=CLIP, source=examined.source, chances=chances)
    return note, [scores_table(scores, DEBIASED)]


def unweighted(examined: Examination | None) -> str:
    """What to keep in mind of logged slates whose places' chances are not known."""
    if examined is None or examined.propensities is not None:
        return ""
    return (
        "These slates were logged, and people click what they look at: that favours the order shown, and nothing here "
        f"corrects it, since the chances of the places are not known: {examined.source}."
    )


def value_cell(value: MetricValue) -> str:
    return f"<b>{value.value:.3f}</b><small>{value.low:.3f} to {value.high:.3f}</small>"


def change(word: str, value: MetricValue, base: MetricValue, reference: str) -> str:
    """`in +37.9% (.012)`: relative change to a reference and its corrected p; empty for the reference itself."""
    by, p = relative(value, base), getattr(value, f"holm_{reference}")
    if by is None or p is None:
        return ""
    return f'<small class="{colour(by, p)}">{word} {by:+.1%} ({escape(bare(p))})</small>'


def colour(by: float, p: float | None) -> str:
    """Green or red only for what is significant."""
    if p is None or p >= 0.05 or by == 0:
        return ""
    return "good" if by > 0 else "bad"


def gains(scores: Scores) -> str:
    """A forest a metric: every ranker's gain over the incoming order and over the best legacy re-ranker."""
    rankers = {n: row for n, row in scores.table["given_target"].items() if n != "incoming"}
    nothing = (float("nan"),) * 3
    pictures = []
    for metric in GAINS:
        series = {"over the incoming order": [row[metric].gain_incoming or nothing for row in rankers.values()]}
        if scores.best_legacy in rankers:
            over = f"over {label(scores.best_legacy)}"
            series[over] = [row[metric].gain_best_legacy or nothing for row in rankers.values()]
        pictures.append((f"Gain in {metric}", plots.forest(list(map(label, rankers)), series, f"gain in {metric}")))
    return grid(pictures)


def slices(scores: Scores) -> Iterator[str]:
    """A metric each, unfolding: all slices given the target, then end to end."""
    parts = {"given_target": "Target in the slate", "end_to_end": "End to end"}
    for number, metric in enumerate(MEASURES):
        tables = [_slices(scores, protocol, metric, words) for protocol, words in parts.items()]
        if any(tables):
            yield details(metric, tables, is_open=number == 0)


def _slices(scores: Scores, protocol: str, metric: str, words: str) -> str:
    rows: list[tuple[str, list[str], str]] = []
    rankers: Mapping[str, object] = {}
    for by, cut in scores.slices.get(protocol, {}).items():
        rankers = next(iter(cut.values()))
        rows.append((escape(by), [""] * (len(rankers) + 1), "group"))
        for name, of in cut.items():
            cells = [value_cell(row[metric]) + _difference(row[metric]) for row in of.values()]
            rows.append((escape(name), [f"{of['incoming'][metric].n:,}", *cells], ""))
    return table([words, "n", *map(label, rankers)], rows) if rows else ""


def _difference(value: MetricValue) -> str:
    """`+0.046 (.012)`; a slice's incoming order may be 0, to which nothing is relative."""
    if value.gain_incoming is None or value.holm_incoming is None:
        return ""
    by, p = value.gain_incoming[0], value.holm_incoming
    return f'<small class="{colour(by, p)}">{by:+.3f} ({escape(bare(p))})</small>'


def probes_table(scores: Scores) -> str:
    """All probes of every ranker that has them."""
    shown = [name for name in PROBES if any(name in row for row in scores.probes.values())]
    rows = [
        (
            first_cell(ranker),
            [bars(scores.first_from[ranker], scores.target_at), *(_probe(scores, ranker, name) for name in shown)],
            kind(ranker),
        )
        for ranker in scores.probes
    ]
    return table(["ranker", "first item came in at", *(PROBES[name] for name in shown)], rows) if rows else ""


def truth_table(scores: Scores) -> str:
    """How true the thoughts of those rankers are that have any."""
    thinking = [ranker for ranker, row in scores.probes.items() if TRUTH.keys() <= row.keys()]
    rows = [(first_cell(ranker), [_probe(scores, ranker, name) for name in TRUTH], kind(ranker)) for ranker in thinking]
    return table(["ranker", *TRUTH.values()], rows) if rows else ""


def _probe(scores: Scores, ranker: str, name: str) -> str:
    value = scores.probes[ranker].get(name)
    if value is None:
        return ""
    n = f"<small>n = {value.n}</small>" if value.n != scores.n_slates else ""
    if name in NUMBERS:
        return f"<b>{value.value:.3f}</b><small>{value.low:.3f} to {value.high:.3f}</small>{n}"
    cell = f"<b>{value.value:.1%}</b><small>{100 * value.low:.1f} to {100 * value.high:.1f}</small>{n}"
    return cell + (f'<small class="wrap">{escape(invalid(scores, ranker))}</small>' if name == "invalid_share" else "")


def invalid(scores: Scores, ranker: str) -> str:
    """`3 partial, 1 duplicate`: the ranker's answers that were no rankings; empty when there are none."""
    wrong = {s: n for s, n in scores.answers[ranker].items() if s not in ("valid", "tied", "repaired")}
    return ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in wrong.items())


def warnings(scores: Scores) -> list[str]:
    """A sentence for each ranker whose answers were not all rankings."""
    sentences = []
    for ranker, counted in scores.answers.items():
        if wrong := invalid(scores, ranker):
            mended = f" {counted['repaired']} of them were mended against that rule." if counted["repaired"] else ""
            sentences.append(
                f"{label(ranker)}: {wrong} of {scores.n_slates} answers were no ranking; the incoming order counts in "
                f"their place.{mended}"
            )
    return sentences
