"""The report's pictures: matplotlib, drawn to SVG and handed over as `<img>` with the picture inside."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

INK, FAINT, GRID = "#1f2328", "#6b7280", "#e5e7eb"
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#475569")
SMOOTH = 60
"""A curve of more points is drawn faint, with its running mean over a twentieth of them on top."""
STYLE: Any = {
    "svg.hashsalt": "gr2",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": GRID,
    "legend.frameon": False,
}
Curve = Sequence[tuple[float, float]]
"""(step, value), steps rising."""


def curves(series: Mapping[str, Curve], ylabel: str) -> str:
    """Lines over training steps, one a name."""

    def draw(axes: Axes) -> None:
        for (name, curve), colour in zip(series.items(), COLOURS * len(series), strict=False):
            steps, values = np.array(curve, dtype=float).T
            many = len(values) > SMOOTH
            axes.plot(steps, values, color=colour, alpha=0.25 if many else 1, lw=1 if many else 1.8, label=None)
            if many:
                axes.plot(*_running_mean(steps, values, len(values) // 20), color=colour, lw=1.8)
            if len(values) <= 12:
                axes.plot(steps, values, "o", color=colour, ms=3.5)
            axes.plot([], [], color=colour, lw=1.8, label=name)
        axes.grid(axis="y")
        axes.set(xlabel="step", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(series) > 1:
            axes.legend(fontsize=9)

    return _image(draw, f"{ylabel} over training steps: {', '.join(series)}")


def _running_mean(steps: np.ndarray, values: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    kernel = np.ones(width) / width
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def uniqueness(levels: Sequence[Mapping[str, Any]]) -> str:
    """Share of items whose first 1, 2, ... codes no other item shares, before and after the assignment."""

    def draw(axes: Axes) -> None:
        at = np.arange(len(levels))
        bars = {"before": ("unique_prefix_share_before", COLOURS[1]), "after": ("unique_prefix_share", COLOURS[0])}
        for offset, (label, (key, colour)) in zip((-0.19, 0.19), bars.items(), strict=True):
            drawn = axes.bar(at + offset, [level[key] for level in levels], 0.36, color=colour, label=label)
            axes.bar_label(drawn, fmt=lambda share: f"{share:.1%}", fontsize=8, color=FAINT, padding=2)
        axes.set(ylim=(0, 1.22), yticks=(0, 0.5, 1), ylabel="share of items")
        axes.set_xticks(at, [f"{level + 1} code{'s' if level else ''}" for level in at])
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="y")
        axes.legend(fontsize=9, loc="upper left", ncols=2)

    return _image(draw, "share of items with a unique prefix, per level, before and after the assignment")


def heat_map(counts_KK: np.ndarray) -> str:
    """Of what stands at each place of the answer (column), the share in % that came in at each place (row)."""

    def draw(axes: Axes) -> None:
        shares = counts_KK / counts_KK.sum(axis=0, keepdims=True)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(0.35, float(shares.max())))
        for (row, column), share in np.ndenumerate(shares):
            dark = share > 0.6 * max(0.35, float(shares.max()))
            axes.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", size=8, color="white" if dark else INK
            )
        places = np.arange(len(shares))
        axes.set_xticks(places, [str(p + 1) for p in places])
        axes.set_yticks(places, [str(p + 1) for p in places])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="place in the answer", ylabel="place in the incoming order")

    return _image(draw, "where the items at each place of the answer came from, in %", height=4.2)


Effect = tuple[float, float, float]
"""Value, then its 95 % interval."""


def forest(names: Sequence[str], series: Mapping[str, Sequence[Effect]], xlabel: str) -> str:
    """A point and its interval a name, from the top down, beside the line of no effect; each series has one a name."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=FAINT, lw=1)
        shifts = np.linspace(-0.15, 0.15, len(series)) if len(series) > 1 else [0.0]
        for (name, effects), colour, shift in zip(series.items(), COLOURS, shifts, strict=False):
            values, lows, highs = np.array(effects, dtype=float).T
            at = np.arange(len(names)) + shift
            axes.hlines(at, lows, highs, color=colour, lw=1.8)
            axes.plot(values, at, "o", color=colour, ms=4.5, label=name)
        axes.set_yticks(np.arange(len(names)), names)
        axes.set(xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        if len(series) > 1:
            # right-aligned: beside long names there is room to the left of the axes, and none to the right
            axes.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(series), handletextpad=0.2)

    return _image(draw, f"{xlabel}, for {', '.join(names)}", height=1.2 + 0.34 * len(names))


def _image(draw: Any, words: str, height: float = 2.9) -> str:
    """An `<img>` of what `draw` puts on one pair of axes, 4.6 inches wide; `words` for who cannot see it."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        draw(figure.subplots())
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(words)}" src="data:image/svg+xml;base64,{data}">'
