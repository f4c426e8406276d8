"""A frozen bundle: the re-ranker as it is served."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from gr2.advice.advisor import Advisor
from gr2.artifacts import Corpus, SemanticIds
from gr2.errors import UserError
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.rank import rank_by_thinking, rank_in_one_pass
from gr2.record import RECORD, digest_folder, read_json, write_json
from gr2.retrieve.neighbours import Neighbours, with_votes
from gr2.types import Item, Ranking, Slate, Split

META = "bundle.json"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model with its catalogue and ids. Written by s11_bundle."""

    name: str
    corpus: Corpus
    """The catalogue; without timelines."""
    ids: SemanticIds
    model: Checkpoint
    """Ranks at once, and after thinking."""
    k: int
    """Candidates of the slates it was trained on."""
    popular: tuple[str, ...]
    """Most popular items of the training events, most first."""
    neighbours: Neighbours
    """Who is asked about slates that come without votes: training timelines as numbers, without user ids."""
    advisor: Advisor
    """Who advises on slates that come without advice."""

    @cached_property
    def items(self) -> Mapping[str, Item]:
        return {item.item_id: item for item in self.corpus.items}

    @property
    def now(self) -> int:
        """The time of a request: when the training events end, since what is popular of late is known up to then."""
        return self.advisor.knowledge.counts.everyone.until

    def rank(self, slates: Sequence[Slate], *, think: bool) -> list[Ranking]:
        """A permutation of each slate's candidates, in the order of `slates`.

        Candidates and history must be in the catalogue (KeyError otherwise). At once, it takes one forward pass. On
        slates without votes or advice these are asked for, as far as the model hears them.
        """
        slates = [s if s.votes else self._asked(s) for s in slates]
        slates = self.advised(slates) if self.model.renderer.advised else self.advisor.tell(slates)
        rankings: dict[str, Ranking] = {}
        for _, group in groupby(sorted(slates, key=_size), key=_size):  # a batch holds slates of one size
            same = list(group)
            if think:
                ranked = rank_by_thinking(self.model, same, budget=Budget(), label=None)
            else:
                ranked = rank_in_one_pass(self.model, same, batch_size=64, label=None)
            rankings |= {r.slate_id: r for r in ranked}
        return [rankings[s.slate_id] for s in slates]

    def warm_up(self) -> None:
        """Rank the most popular items both ways, so that no request waits for what is made on first use."""
        items = self.popular[: self.k]
        slate = Slate(
            slate_id="warm-up",
            user_id="",
            split=Split.TEST,
            time=self.now,
            history=items,
            candidates=items,
            scores=(0.0,) * len(items),
            gains=(0,) * len(items),
        )
        for think in (False, True):
            self.rank([slate] if items else [], think=think)

    def advised(self, slates: Sequence[Slate]) -> list[Slate]:
        """The slates, those without advice with what the advisor says of them as they stand."""
        wanting = iter(self.advisor.advise([s for s in slates if not s.advice]))
        return [s if s.advice else next(wanting) for s in slates]

    def _asked(self, slate: Slate) -> Slate:
        (asked,) = with_votes([slate], self.neighbours, self.corpus.row, {})
        return asked

    def save(self, folder: Path) -> None:
        self.neighbours.save(folder)
        self.advisor.save(folder)
        for name in ("corpus", "sids"):
            (folder / name).mkdir(exist_ok=True)
        self.corpus.save(folder / "corpus")
        self.ids.save(folder / "sids")
        self.model.save(folder / "model")
        write_json(folder / META, {"name": self.name, "k": self.k, "popular": list(self.popular)})

    @classmethod
    def load(cls, folder: Path) -> "Bundle":
        """Raises UserError when a part is missing or spoilt, or belongs to other ids."""
        record = read_json(folder / RECORD) if (folder / RECORD).exists() else {}
        if "digest" in record and record["digest"] != digest_folder(folder):
            raise UserError(f"{folder}: not as it was made (a file is missing, changed or new); copy the bundle again")
        meta = read_json(folder / META)
        corpus, ids = Corpus.load(folder / "corpus"), SemanticIds.load(folder / "sids")
        return cls(
            name=meta["name"],
            corpus=corpus,
            ids=ids,
            model=Checkpoint.load(folder / "model", corpus, ids),
            k=meta["k"],
            popular=tuple(meta["popular"]),
            neighbours=Neighbours.load(folder),
            advisor=Advisor.load(folder, corpus, ids.codes),
        )


def _size(slate: Slate) -> int:
    return len(slate.candidates)
