"""`gr2 rollouts --run R`: what the model tried in the RL and what it was paid, from the run's own files. (ours)"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.errors import UserError
from gr2.prompt.parse import parse
from gr2.prompt.readable import readable
from gr2.prompt.render import advised
from gr2.record import RECORD, read_json
from gr2.rl.rollouts import Rollout, probes, read_rollouts
from gr2.rl.shown import shown_as
from gr2.run import console, folder_of
from gr2.show import titles
from gr2.types import Item, SemanticId, Slate

SHOWN = 10
"""Newest history items shown."""
Group = tuple[int, str]
"""Step and slate id: the rollouts of one prompt."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What puts titles in the place of ids."""

    items: Mapping[str, Item]
    ids: Mapping[str, SemanticId]


def show_rollouts(run: Path, step: int | None, slate_id: str | None) -> None:
    """Print the rollouts of a step and slate; without a slate, what the steps (or the step's slates) were paid first,
    and then the group whose rewards differ most. Raises UserError when there is nothing of that step or slate, or the
    slates have been made again since.
    """
    folder = run / folder_of("s08_rl")
    check_slates(folder, run / folder_of("s05_traces"))
    rows = read_rollouts(folder / "rollouts.jsonl")
    chosen = [r for r in rows if step in (None, r.step) and slate_id in (None, r.slate_id)]
    if not chosen:
        raise UserError(f"{folder}: no rollouts of {nothing_of(rows, step, slate_id)}")
    corpus, ids = Corpus.load(run / folder_of("s01_corpus")), SemanticIds.load(run / folder_of("s02_sids"))
    catalogue = Catalogue(items={item.item_id: item for item in corpus.items}, ids=ids.of)
    slates = Slates.load(run / folder_of("s05_traces")).by_id
    groups = groups_of(chosen)
    if slate_id is None:
        console.print(overview(groups) if step is not None else overview(groups_of(chosen, by_step=True)))
        console.print("\nThe group whose rewards differ most (--step and --slate show another):")
        groups = dict([max(groups.items(), key=lambda group: spread(group[1]))])
    for (at, name), group in groups.items():
        console.print(f"\n[bold]step {at}, slate {escape(name)}[/], {len(group)} rollouts")
        for line in told(group, slates[name], catalogue):
            console.print(line)


def check_slates(folder: Path, slates: Path) -> None:
    """Raises UserError when the rollouts are about other slates of the same names."""
    asked, there = (read_json(path / RECORD) for path in (folder, slates))
    if asked["inputs"].get(slates.name) != there["digest"]:
        raise UserError(f"{folder}: made before {slates.name} was made again; make it again: gr2 run ... --redo rl")


def nothing_of(rows: Sequence[Rollout], step: int | None, slate_id: str | None) -> str:
    """What was asked for, and what there is."""
    asked = " and ".join([f"step {step}"] * (step is not None) + [f"slate {slate_id!r}"] * (slate_id is not None))
    if not rows:
        return "any step"
    of_step = list(dict.fromkeys(r.slate_id for r in rows if r.step == step))[:5]
    return f"{asked}; steps go from {rows[0].step} to {rows[-1].step}" + (
        f", step {step} has slates {', '.join(of_step)}, ..." if of_step else ""
    )


def groups_of(rows: Sequence[Rollout], *, by_step: bool = False) -> dict[Group, list[Rollout]]:
    """The rollouts of each prompt, or of each step, in the order in which they were made."""
    groups: dict[Group, list[Rollout]] = defaultdict(list)
    for row in rows:
        groups[row.step, "" if by_step else row.slate_id].append(row)
    return groups


def spread(rows: Sequence[Rollout]) -> float:
    return max(r.reward for r in rows) - min(r.reward for r in rows)


def overview(groups: Mapping[Group, Sequence[Rollout]]) -> Table:
    """One line a group: how many, what they were paid, how they were answered."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("step", "slate", "rollouts", "reward", "lowest", "highest", "valid", "echo"):
        table.add_column(name, justify="left" if name == "slate" else "right")
    for (step, slate_id), rows in groups.items():
        rewards, signs = [r.reward for r in rows], probes(rows)
        paid = (sum(rewards) / len(rewards), min(rewards), max(rewards))
        shares = (f"{signs[name]:.0%}" for name in ("valid_share", "echo_share"))
        table.add_row(str(step), escape(slate_id), str(len(rows)), *(f"{value:+.3f}" for value in paid), *shares)
    return table


def told(rows: Sequence[Rollout], slate: Slate, catalogue: Catalogue) -> Iterator[Padding | str | Table]:
    """One prompt with titles for ids, and its rollouts, best paid first; equal ones once."""
    shown = shown_as(slate, rows[0].places)
    yield Padding(f"[bold]history[/] {titles(shown.history[-SHOWN:], catalogue.items)}", (0, 0, 0, 2))
    yield Padding(candidates(shown, rows[0].places, catalogue), (0, 0, 0, 2))
    if shown.advice:
        yield Padding(f"[bold]advice[/] {' '.join(str(c + 1) for c in advised(shown))}", (0, 0, 0, 2))
    same: dict[str, list[Rollout]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: -r.reward):
        same[row.text].append(row)
    for alike in same.values():
        yield Padding(rollout(alike[0], len(alike), shown, catalogue), (1, 0, 0, 2))


def candidates(shown: Slate, places: Sequence[int], catalogue: Catalogue) -> Table:
    """The candidates as the prompt lists them; the target in bold."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for place, item in enumerate(shown.candidates):
        title = escape(catalogue.items[item].title)
        came = "" if places[place] == place else f"came in at {places[place] + 1}"
        marked = f"[bold green]{title} ◂ target[/]" if shown.gains[place] else title
        table.add_row(str(place + 1), marked, came)
    return table


def rollout(row: Rollout, times: int, shown: Slate, catalogue: Catalogue) -> str:
    """What it was paid and for what, its thought, its answer."""
    words = parse(row.text, len(shown.candidates)).thought
    thought = escape(readable(words, shown, catalogue.items, catalogue.ids))
    answer = " ".join(f"[bold green]{c + 1}[/]" if shown.gains[c] else str(c + 1) for c in row.order)
    parts = f"rank {row.rank:+.3f}, format {row.format:.0f}, overlong {row.overlong:.2f}"
    truth = "" if row.truth is None else f", true {row.truth:.2f}"
    again = f" [dim](written {times} times)[/]" if times > 1 else ""
    return (
        f"[bold]reward {row.reward:+.3f}[/] ({parts}), advantage {row.advantage:+.2f}{truth}, {row.status}{again}\n"
        f"  thought [italic]{thought or '-'}[/]\n"
        f"  answer  {answer or '-'}"
    )
