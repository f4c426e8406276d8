"""What a table of scores says, in one sentence, whether it is good news or not. (ours)"""

from collections.abc import Sequence

from gr2.artifacts import MetricValue, Scores
from gr2.types import Ranking

GR2 = "gr2"
"""Rankers whose name starts so are GR2's modes; all others are references."""
METRIC = "R@1"
PUBLISHED = {"R@1": 0.187, "R@3": 0.071, "N@3": 0.096}
"""Relative gain over the production order that the technical report publishes (P2, method §6)."""
DEBIASED = "debiased"
"""The protocol of logged slates: given the target, each click weighted by how likely its place is looked at."""


def label(ranker: str) -> str:
    """A ranker's folder name as a person reads it."""
    return ranker.replace("_", " ")


def gr2_modes(scores: Scores) -> list[str]:
    return [name for name in scores.table["given_target"] if name.startswith(GR2)]


def served_mode(scores: Scores) -> str | None:
    """The mode that answers unless another is asked for: it stands last. Never the best by these very slates.

    None when there is none.
    """
    return next(reversed(gr2_modes(scores)), None)


def headline(scores: Scores) -> str:
    """The served mode against the incoming order and the best legacy re-ranker, with p and n."""
    served = served_mode(scores)
    if served is None:
        return "No GR2 ranker was evaluated."
    share = scores.table["given_target"][served][METRIC].value
    against = _against(scores, served, "given_target")
    return f"{label(served)} puts the target first in {share:.1%} of {scores.n_slates} test slates: {against}."


def debiased(scores: Scores) -> str:
    """The same where clicks are weighted by how likely their places are looked at; empty where they are not."""
    served = served_mode(scores)
    if served is None or DEBIASED not in scores.table:
        return ""
    share = scores.table[DEBIASED][served][METRIC].value
    return (
        "People click what they look at, which favours the order shown. With each click weighted by how likely its "
        f"place is looked at, it is {share:.1%}: {_against(scores, served, DEBIASED)}."
    )


def beside_advice(served: Sequence[Ranking], advice: Sequence[Ranking]) -> str:
    """How often the served mode decides otherwise than the advice that it hears; both of the same slates."""
    others = sum(a.order[0] != b.order[0] for a, b in zip(served, advice, strict=True))
    return (
        "Beside the model stands advice, smaller models over counts, histories, times, places and texts; "
        "alone, it is the row advice. "
        f"In {others / max(1, len(served)):.1%} of the slates the model puts another candidate first."
    )


def _against(scores: Scores, served: str, protocol: str) -> str:
    rankers = scores.table[protocol]
    mine = rankers[served][METRIC]
    others = {"the incoming order": ("incoming", mine.p_incoming)}
    if scores.best_legacy not in ("incoming", served):
        others[f"{label(scores.best_legacy)}, the best legacy re-ranker"] = (scores.best_legacy, mine.p_best_legacy)
    return " and ".join(compared(mine, rankers[name][METRIC], p, words) for words, (name, p) in others.items())


def correction(scores: Scores) -> str:
    """The headline's p values after Holm's correction over the whole table; empty when there are none."""
    served = served_mode(scores)
    mine = scores.table["given_target"][served][METRIC] if served else None
    if mine is None or mine.holm_incoming is None:
        return ""
    legacy = mine.holm_best_legacy
    too = f" and {p_text(legacy)} against {label(scores.best_legacy)}" if legacy is not None else ""
    return f"After Holm's correction over the table: {p_text(mine.holm_incoming)} against the incoming order{too}."


def compared(value: MetricValue, base: MetricValue, p: float | None, name: str) -> str:
    """`22.0% above the incoming order (p < .001)`."""
    change = relative(value, base)
    if change is None or p is None:
        return f"{value.value:.3f} against {base.value:.3f} of {name}"
    how = "level with" if change == 0 else f"{abs(change):.1%} {'above' if change > 0 else 'below'}"
    return f"{how} {name} ({p_text(p)}{', not significant' if p >= 0.05 else ''})"


def relative(value: MetricValue, base: MetricValue) -> float | None:
    """Change of `value` over `base` as a share of `base`; None when `base` is 0."""
    return value.value / base.value - 1 if base.value else None


def p_text(p: float) -> str:
    """`p = .031`, `p < .001`."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def bare(p: float) -> str:
    """`.031`, `<.001`."""
    return p_text(p).removeprefix("p ").removeprefix("= ").replace(" ", "")
