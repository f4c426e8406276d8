"""What a table of scores says, in one sentence, whether it is good news or not. (ours)"""

from gr2.artifacts import MetricValue, Scores

GR2 = "gr2"
"""Rankers whose name starts so are GR2's modes; all others are references."""
METRIC = "R@1"
PUBLISHED = {"R@1": 0.187, "R@3": 0.071, "N@3": 0.096}
"""Relative gain over the production order that the technical report publishes (P2, METHOD §6)."""


def label(ranker: str) -> str:
    """A ranker's folder name as a person reads it."""
    return ranker.replace("_", " ")


def gr2_modes(scores: Scores) -> list[str]:
    return [name for name in scores.table["given_target"] if name.startswith(GR2)]


def best_mode(scores: Scores) -> str | None:
    """GR2's mode with the highest R@1 on these slates, given the target is among them (of equals the later stage's).

    None when there is none.
    """
    rankers = scores.table["given_target"]
    return max(reversed(gr2_modes(scores)), key=lambda name: rankers[name][METRIC].value, default=None)


def headline(scores: Scores) -> str:
    """The best GR2 mode against the incoming order and the best legacy re-ranker, with p and n."""
    best = best_mode(scores)
    if best is None:
        return "No GR2 ranker was evaluated."
    rankers = scores.table["given_target"]
    mine = rankers[best][METRIC]
    others = {"the incoming order": ("incoming", mine.p_incoming)}
    if scores.best_legacy not in ("incoming", best):
        others[f"{label(scores.best_legacy)}, the best legacy re-ranker"] = (scores.best_legacy, mine.p_best_legacy)
    against = " and ".join(compared(mine, rankers[name][METRIC], p, words) for words, (name, p) in others.items())
    return f"{label(best)} puts the target first in {mine.value:.1%} of {scores.n_slates} test slates: {against}."


def caveat(scores: Scores) -> str:
    """How the mode of the headline was picked; empty when there was no choice."""
    modes = len(gr2_modes(scores))
    return f"It is the best of {modes} GR2 modes by this very number; the table has them all." if modes > 1 else ""


def correction(scores: Scores) -> str:
    """The headline's p values after Holm's correction over the whole table; empty when there are none."""
    best = best_mode(scores)
    mine = scores.table["given_target"][best][METRIC] if best else None
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
