"""A bundle with the counts of another log: what is counted, what stays, and what is refused."""

import json

import numpy as np
import pytest
import shop
from test_bundle import BUNDLE, SLATES
from typer.testing import CliRunner

from gr2.cli import app
from gr2.errors import UserError
from gr2.serve.ranker import Bundle
from gr2.serve.refresh import refreshed
from gr2.types import Split

TRAINED = {
    t.user_id: [e[:2] for e in zip(t.item_ids, t.times, t.splits, strict=True) if e[2] is Split.TRAIN]
    for t in shop.corpus().timelines
}
"""The events that the bundle's counts are of."""


def counts_of(bundle):
    return bundle.advisor.knowledge.counts.everyone


def test_the_same_log_gives_the_same_bundle():
    new, counted = refreshed(BUNDLE, TRAINED)
    assert (counted.users, counted.left_out) == (len(TRAINED), 0)
    assert counted.events == sum(map(len, TRAINED.values()))
    ours, theirs = counts_of(new).tensors(), counts_of(BUNDLE).tensors()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    for think in (False, True):
        assert new.rank(SLATES, think=think) == BUNDLE.rank(SLATES, think=think)


def test_new_events_are_counted_and_unknown_items_left_out():
    """Three newcomers take i10 and then i12, and something that nobody knows; one took that alone."""
    later = counts_of(BUNDLE).until + 100
    more = {f"new{n}": [("i10", later), ("unheard", later), ("i12", later + 1)] for n in range(3)}
    new, counted = refreshed(BUNDLE, TRAINED | more | {"new3": [("unheard", later)]})
    assert (counted.users, counted.left_out) == (len(TRAINED) + 3, 4)
    a, b = (BUNDLE.corpus.row[i] for i in ("i10", "i12"))
    before, after = counts_of(BUNDLE), counts_of(new)
    assert (after.popularity[[a, b]] - before.popularity[[a, b]]).tolist() == [3, 3]
    assert after.follows[1][a, b] - before.follows[1][a, b] == 3
    assert new.now == later + 1
    assert new.neighbours.n_users == len(TRAINED) + 3
    assert new.model is BUNDLE.model


def test_popular_is_what_is_popular_now():
    log = {f"u{n}": [("i01", 0), ("i11", 1)] for n in range(4)} | {"u4": [("i11", 0)]}
    assert refreshed(BUNDLE, log)[0].popular == ("i11", "i01")


def test_what_a_file_has_sorted_by_item_is_drawn_anew(tmp_path):
    (folder := tmp_path / "bundle").mkdir()
    BUNDLE.save(folder)
    taken = [(f"u{n}", item) for n in range(60) for item in ("i01", "i11")]
    rows = [{"user_id": user, "item_id": item, "timestamp": 0} for user, item in taken]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(folder, tmp_path / "log.jsonl", tmp_path / "new").exit_code == 0
    a, b = (BUNDLE.corpus.row[i] for i in ("i01", "i11"))
    follows = counts_of(Bundle.load(tmp_path / "new")).follows[1]
    assert follows[a, b] + follows[b, a] == 60
    assert 15 < follows[a, b] < 45


def test_the_log_of_another_shop_is_refused():
    with pytest.raises(UserError, match="give the log of the same shop"):
        refreshed(BUNDLE, {"u": [("unheard", 0)]})


@pytest.fixture
def files(tmp_path):
    """A bundle on disk, and its log with one more event, of an item that it does not know."""
    (folder := tmp_path / "bundle").mkdir()
    BUNDLE.save(folder)
    rows = [{"user_id": u, "item_id": i, "timestamp": t} for u, events in TRAINED.items() for i, t in events]
    rows.append({"user_id": "u", "item_id": "unheard", "timestamp": 0})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, tmp_path / "log.jsonl", tmp_path / "new"


def run(folder, log, out):
    return CliRunner().invoke(app, ["refresh", str(folder), "--events", str(log), "--out", str(out)])


def test_from_files(files):
    done = run(*files)
    assert done.exit_code == 0, done.output
    assert "left out 1 events of items that the bundle does not know" in done.output
    assert Bundle.load(files[2]).rank(SLATES, think=False) == BUNDLE.rank(SLATES, think=False)
    assert json.loads((files[2] / "record.json").read_text())["refreshed"]["users"] == len(TRAINED)
    assert isinstance(run(*files).exception, UserError)  # it is there now
    (files[2] / "model" / "config.json").unlink()
    with pytest.raises(UserError, match=r"not as it was made .* copy the bundle again"):
        Bundle.load(files[2])


def test_what_cannot_be_read_leaves_nothing(files, tmp_path):
    files[1].write_text("not JSON\n")
    assert isinstance(run(*files).exception, UserError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "log.jsonl"]
