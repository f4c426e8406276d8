"""The pieces of a page: tables, figures, small histograms. All text that comes from data is escaped by the caller."""

from collections.abc import Iterable, Sequence
from html import escape

from gr2.evaluate.headline import GR2, label


def section(title: str, note: str, parts: Iterable[str]) -> str:
    """A heading, a note (plain text) and the parts; nothing when there is no part."""
    inside = "\n".join(part for part in parts if part)
    return f'<h2>{escape(title)}</h2>\n<p class="note">{escape(note)}</p>\n{inside}' if inside else ""


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str], str]]) -> str:
    """A table in a box of its own that scrolls; rows are (first cell, other cells, class), all HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f'<tr class="{kind}"><th>{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, cells, kind in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def grid(pictures: Iterable[tuple[str, str]]) -> str:
    """Captioned pictures side by side; (caption as plain text, HTML)."""
    figures = "".join(f"<figure><figcaption>{escape(t)}</figcaption>{picture}</figure>" for t, picture in pictures)
    return f'<div class="grid">{figures}</div>' if figures else ""


def details(summary: str, parts: Iterable[str], is_open: bool = False) -> str:
    """Parts that unfold."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def first_cell(ranker: str, mark: str = "") -> str:
    return escape(label(ranker)) + (f"<small>{escape(mark)}</small>" if mark else "")


def kind(ranker: str) -> str:
    """The class of a ranker's row."""
    return "gr2" if ranker.startswith(GR2) else ""


def bars(shares_K: Sequence[float], reference_K: Sequence[float]) -> str:
    """A histogram of K shares the size of a word, with a tick at each share of the reference."""
    wide, high = 12, 34
    top = max([*shares_K, *reference_K, 0.3])
    drawn = [
        f'<rect x="{wide * i}" y="{high * (1 - s / top):.1f}" width="{wide - 2}" height="{high * s / top:.1f}"/>'
        for i, s in enumerate(shares_K)
    ]
    ticks = [f'<path d="M{wide * i - 1} {high * (1 - s / top):.1f}h{wide}"/>' for i, s in enumerate(reference_K)]
    words = ", ".join(f"{s:.0%}" for s in shares_K)
    size = f'width="{wide * len(shares_K)}" height="{high}" viewBox="-1 -1 {wide * len(shares_K)} {high + 2}"'
    return f'<svg class="bars" role="img" aria-label="{words}" {size}>{"".join(drawn + ticks)}</svg>'
