"""`gr2 follow ITEM --run R`: one item through every stage, told from the run's own files. (ours)"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path

from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from gr2.artifacts import CHECKPOINT, SLATES, Corpus, Rankings, SemanticIds, Slates, Traces
from gr2.errors import UserError
from gr2.evaluate.headline import label
from gr2.prompt.readable import readable
from gr2.prompt.render import Renderer, load_template
from gr2.record import is_complete, read_json, read_metrics
from gr2.rl.rollouts import read_rollouts
from gr2.rl.shown import shown_as
from gr2.run import STAGES, about, console, folder_of
from gr2.show import titles
from gr2.sid.spelling import spell
from gr2.types import Item, Slate, Split, Trace

SHOWN = 8
"""Titles of a long list that are shown."""
NEAR = 0.8
"""Similarity above which a misspelled title is taken."""


@dataclass(frozen=True)
class Story:
    """A run's files, each read when first asked for, and the item that is followed."""

    run: Path
    corpus: Corpus
    item: Item

    @cached_property
    def items(self) -> dict[str, Item]:
        return {item.item_id: item for item in self.corpus.items}

    @cached_property
    def ids(self) -> SemanticIds:
        return SemanticIds.load(self.run / "02_sids")

    @cached_property
    def slates(self) -> Slates:
        """With advice, once there is any."""
        advised = self.run / "05_traces"
        return Slates.load(advised if (advised / SLATES).exists() else self.run / "04_slates")

    def slates_with_target(self, split: Split) -> list[Slate]:
        """The slates of this split in which the item is what the person took."""
        return [s for s in self.slates.split(split) if s.candidates[s.target] == self.item.item_id]

    @cached_property
    def test_slate(self) -> Slate | None:
        """The first test slate with the item as its target, else the first with it as a candidate."""
        held = (s for s in self.slates.split(Split.TEST) if self.item.item_id in s.candidates)
        return next(iter(self.slates_with_target(Split.TEST)), None) or next(held, None)

    def thought(self, text: str, slate: Slate) -> str:
        return escape(readable(text, slate, self.items, self.ids.of))


def follow_item(run: Path, title: str) -> None:
    """Print the item's way through every stage; a stage that is not there is said to be missing.

    Raises UserError when the run has no corpus, or no item has that title.
    """
    corpus = Corpus.load(run / "01_corpus")
    story = Story(run, corpus, find_item(corpus, title))
    console.print(f"[bold]{escape(story.item.title)}[/] through {escape(str(run))}")
    for stage in STAGES:
        folder = folder_of(stage)
        console.print(f"\n[bold]{folder}[/]  [dim]{escape(about(stage))}[/]")
        if not is_complete(run / folder):
            console.print("  [yellow]missing in this run[/]")
            continue
        for line in TELL.get(folder, training)(story, folder):
            console.print(Padding(Text.from_markup(line, emoji=False), (0, 0, 0, 2)))


def find_item(corpus: Corpus, title: str) -> Item:
    """The item with this title or id, or the nearest title; of several, the one with most events.

    Raises UserError with the nearest titles when none is near, or when several are.
    """
    wanted = _plain(title)
    exact = [i for i in corpus.items if wanted == _plain(i.title) or title == i.item_id]
    if exact:
        events = [i for t in corpus.timelines for i in t.item_ids]
        return max(exact, key=lambda item: events.count(item.item_id))
    within = [i for i in corpus.items if wanted and wanted in _plain(i.title)]
    if len(within) == 1:
        return within[0]
    nearest = sorted(within or corpus.items, key=lambda i: -_likeness(wanted, i.title))
    if not within and _likeness(wanted, nearest[0].title) >= NEAR:
        return nearest[0]
    raise UserError(f"no item called {title!r}; nearest: {'; '.join(i.title for i in nearest[:5])}")


def _plain(title: str) -> str:
    """Lower-case words without punctuation."""
    return " ".join("".join(c if c.isalnum() else " " for c in title.casefold()).split())


def _likeness(wanted: str, title: str) -> float:
    return SequenceMatcher(None, wanted, _plain(title)).ratio()


def corpus(story: Story, folder: str) -> Iterator[str]:
    splits = [
        split
        for timeline in story.corpus.timelines
        for item_id, split in zip(timeline.item_ids, timeline.splits, strict=True)
        if item_id == story.item.item_id
    ]
    counts = ", ".join(f"{splits.count(split)} {split.value}" for split in Split)
    yield f"item {escape(story.item.item_id)}: {escape(story.item.text)}"
    yield f"{len(splits)} events: {counts}"


def sids(story: Story, folder: str) -> Iterator[str]:
    sid = story.ids.of[story.item.item_id]
    yield f"[bold]{escape(spell(sid, markers=True))}[/], codes {sid.codes}"
    for depth in range(len(sid.codes) - 1, 0, -1):
        rows = [i for i, other in story.ids.of.items() if other.codes[:depth] == sid.codes[:depth]]
        others = [i for i in rows if i != story.item.item_id]
        more = f" · and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        yield f"{len(others)} others share {sid.codes[:depth]}: {titles(others[:SHOWN], story.items)}{more}"
    report = read_json(story.run / folder / "report.json")
    yield (
        f"of {report['n_items']} items {report['unique_share_before']:.1%} had an id of their own before the "
        f"assignment of last codes, {report['unique_share']:.1%} after"
    )


def slates(story: Story, folder: str) -> Iterator[str]:
    targets = ", ".join(f"{len(story.slates_with_target(split))} {split.value}" for split in Split)
    yield f"target of {targets} slates"
    slate = story.test_slate
    if slate is None:
        yield "in no test slate"
        return
    shown = slate.history[-SHOWN:]
    yield f"test slate {escape(slate.slate_id)}; newest {len(shown)} of {len(slate.history)} events, oldest first:"
    yield f"  {titles(shown, story.items)}"
    for place, (item_id, score, gain) in enumerate(zip(slate.candidates, slate.scores, slate.gains, strict=True), 1):
        title = escape(story.items[item_id].title)
        yield f"  {place:>2} {score:7.3f}  {f'[bold green]{title} ◂ target[/]' if gain else title}"


def traces(story: Story, folder: str) -> Iterator[str]:
    own = {slate.slate_id: slate for slate in story.slates_with_target(Split.TRAIN)}
    found = [t for t in Traces.load(story.run / folder).traces if t.slate_id in own]
    yield f"{len(found)} tries on slates with this target, {sum(t.kept for t in found)} kept"
    for trace in sorted(found, key=lambda t: not t.kept)[:1]:
        yield from _trace(story, own[trace.slate_id], trace)


def _trace(story: Story, slate: Slate, trace: Trace) -> Iterator[str]:
    verdict = "kept" if trace.kept else "refused"
    yield f"slate {escape(slate.slate_id)}, try {trace.attempt}, {verdict}: {escape(trace.reason)}"
    yield f"evidence: {escape(trace.evidence)}"
    yield f"thought: [italic]{story.thought(trace.thought, slate)}[/]"
    yield f"ranking: {titles([slate.candidates[c] for c in trace.order], story.items)}"


def sft(story: Story, folder: str) -> Iterator[str]:
    yield from training(story, folder)
    if story.test_slate:
        yield "what the model reads of the test slate above:"
        yield from (f"  {escape(line)}" for line in prompt_of(story, story.test_slate).splitlines())


def training(story: Story, folder: str) -> Iterator[str]:
    """First and last value of every curve that the stage wrote."""
    rows = read_metrics(story.run / folder)
    for phase in dict.fromkeys(row.get("phase", "") for row in rows):
        own = [row for row in rows if row.get("phase", "") == phase]
        names = [k for k, v in own[-1].items() if k != "step" and isinstance(v, int | float) and k in own[0]]
        curves = ", ".join(f"{name} {own[0][name]:.4g} -> {own[-1][name]:.4g}" for name in names)
        yield f"{escape(phase)} step {own[0].get('step')} -> {own[-1].get('step')}: {escape(curves)}"


def evaluated(story: Story, folder: str) -> Iterator[str]:
    slate = story.test_slate
    if slate is None:
        return
    where = slate.candidates.index(story.item.item_id)
    yield f"test slate {escape(slate.slate_id)}: came in at {where + 1} of {len(slate.candidates)}"
    for file in sorted((story.run / folder).glob("*/rankings.parquet")):
        ranking = next((r for r in Rankings.load(file.parent).rankings if r.slate_id == slate.slate_id), None)
        if ranking:
            yield f"  {escape(label(file.parent.name)):<22} -> {ranking.order.index(where) + 1}"
            if ranking.thought:
                yield f"    [italic]{story.thought(ranking.thought, slate)}[/]"


def prompt_of(story: Story, slate: Slate) -> str:
    """The text that the fine-tuned model reads for this slate, when it may think."""
    meta = read_json(story.run / "06_sft" / CHECKPOINT)
    renderer = Renderer(
        template=load_template(meta["template"]),
        items=story.items,
        ids=story.ids.of,
        markers=meta["markers"],
        history=meta["history"],
        gaps=meta.get("gaps", False),
    )
    return renderer.prompt(slate, think=True)


def rl(story: Story, folder: str) -> Iterator[str]:
    """The curves, and the best paid rollout on a slate with this target."""
    yield from training(story, folder)
    own = {slate.slate_id: slate for slate in story.slates_with_target(Split.TRAIN)}
    rollouts = [r for r in read_rollouts(story.run / folder / "rollouts.jsonl") if r.slate_id in own]
    yield f"{len(rollouts)} rollouts on slates with this target"
    if rollouts:
        best = max(rollouts, key=lambda r: r.reward)
        yield f"best: step {best.step}, slate {escape(best.slate_id)}, {best.status.value}, reward {best.reward:+.3f}:"
        yield f"  [italic]{story.thought(best.text, shown_as(own[best.slate_id], best.places))}[/]"


TELL: dict[str, Callable[[Story, str], Iterator[str]]] = {
    "01_corpus": corpus,
    "02_sids": sids,
    "04_slates": slates,
    "05_traces": traces,
    "06_sft": sft,
    "08_rl": rl,
    "13_evaluate": evaluated,
}
