"""One picture of the semantic ids: uniqueness, use of the codes, what a prefix means, what is lost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from gr2.evaluate.plots import COLOURS, FAINT, STYLE

Levels = Sequence[Mapping[str, Any]]


def draw_report(path: Path, report: Mapping[str, Any], codes: np.ndarray) -> None:
    """Write a PNG of `sid_report`'s answer and the final `codes` (N, L)."""
    levels = report["levels"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 6.4), layout="constrained")
        (unique, use), (means, lost) = figure.subplots(2, 2)
        _uniqueness(unique, levels)
        _use(use, levels, codes)
        # Below the last code every item is alone: nothing is common there.
        _meaning(means, levels[:-1] or levels)
        _lost(lost, levels)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def _bars(axes: Axes, levels: Levels, bars: Mapping[str, tuple[str, str]], shown: str) -> None:
    """Groups of bars, one group a level; a value that is None is left out."""
    at, width = np.arange(len(levels)), 0.8 / len(bars)
    for place, (label, (key, colour)) in enumerate(bars.items()):
        values = [np.nan if level[key] is None else level[key] for level in levels]
        drawn = axes.bar(at + (place - (len(bars) - 1) / 2) * width, values, 0.92 * width, color=colour, label=label)
        axes.bar_label(drawn, fmt=lambda v: "" if np.isnan(v) else shown.format(v), fontsize=7, color=FAINT, padding=2)
    axes.set_xticks(at, [f"{level + 1} code{'s' if level else ''}" for level in at])
    axes.grid(axis="y")
    axes.legend(fontsize=8, loc="upper left", ncols=2)


def _uniqueness(axes: Axes, levels: Levels) -> None:
    bars = {
        "before": ("unique_prefix_share_before", COLOURS[1]),
        "after the assignment": ("unique_prefix_share", COLOURS[0]),
    }
    _bars(axes, levels, bars, "{:.1%}")
    axes.set(title="items that share their first codes with no other", ylim=(0, 1.28), yticks=(0, 0.5, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _use(axes: Axes, levels: Levels, codes: np.ndarray) -> None:
    for level, (row, colour) in enumerate(zip(levels, COLOURS * len(levels), strict=False)):
        held = np.sort(np.bincount(codes[:, level], minlength=row["size"]))[::-1]
        words = f"level {level + 1}: {row['usage']:.0%} used, perplexity {row['perplexity']:.0f} of {row['size']}"
        axes.plot(np.arange(1, len(held) + 1), held, color=colour, lw=1.6, drawstyle="steps-mid", label=words)
    axes.set(title="items of each code, the fullest code first", xlabel="code", ylabel="items", yscale="symlog")
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.grid(axis="y")
    axes.legend(fontsize=8)


def _meaning(axes: Axes, levels: Levels) -> None:
    bars = {
        "commonest category": ("category_purity", COLOURS[2]),
        "by chance": ("category_purity_by_chance", "#d1d5db"),
        "nearest items share it": ("neighbours_sharing", COLOURS[3]),
        "any two items share it": ("neighbours_sharing_by_chance", "#e5e7eb"),
    }
    _bars(axes, levels, bars, "{:.0%}")
    axes.set(title="what a common prefix means", ylim=(0, 1.4), yticks=(0, 0.5, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _lost(axes: Axes, levels: Levels) -> None:
    bars = {
        "before": ("reconstruction_error_before", COLOURS[1]),
        "after the assignment": ("reconstruction_error", COLOURS[0]),
    }
    _bars(axes, levels, bars, "{:.3f}")
    top = max(level[key] for level in levels for key, _ in bars.values())
    axes.set(title="reconstruction error (share of the variance)", ylim=(0, 1.3 * top if top else 1))
