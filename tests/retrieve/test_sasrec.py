import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.errors import UserError
from gr2.prompt.gaps import UNKNOWN
from gr2.retrieve import sasrec
from gr2.retrieve.sasrec import SasrecConfig

N = 12
SMALL = SasrecConfig(dim=16, layers=1, heads=2, max_length=8, epochs=12, batch_size=16, learning_rate=2e-2)


def cyclic_shop(users: int = 40, length: int = 20) -> list[list[int]]:
    """After item i everyone takes i + 1."""
    return [[(u + t) % N for t in range(length)] for u in range(users)]


def events(*rows: int, gap: int = UNKNOWN) -> list[tuple[int, int]]:
    return [(row, gap) for row in rows]


@pytest.fixture(scope="module")
def model() -> sasrec.Sasrec:
    return sasrec.train(cyclic_shop(), N, SMALL, seed=0)


def test_learns_the_cycle(model: sasrec.Sasrec) -> None:
    best = sasrec.scores(model, [[i, (i + 1) % N, (i + 2) % N] for i in range(N)]).argmax(1)
    assert best.tolist() == [(i + 3) % N for i in range(N)]


def test_scores_are_blind_to_the_rest_of_the_batch(model: sasrec.Sasrec) -> None:
    together = sasrec.scores(model, [[3], [], [1, 2, 3, 4, 5]])
    alone = np.concatenate([sasrec.scores(model, [h]) for h in ([3], [], [1, 2, 3, 4, 5])])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_only_the_newest_events_count(model: sasrec.Sasrec) -> None:
    """Nine tenths of a window of 8 are 7 events: with the start before them they end at the last trained position."""
    tail = [5, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(sasrec.scores(model, [[0, 1, 2, 3, 4, *tail]]), sasrec.scores(model, [tail]))
    assert not np.allclose(sasrec.scores(model, [tail]), sasrec.scores(model, [tail[1:]]))


def test_the_model_learns_what_a_gap_means() -> None:
    """Who comes back soon takes the item of one circle after, who comes back late that of the other before."""
    rng = np.random.default_rng(0)
    rows, gaps = [], []
    for user in range(60):
        later = rng.integers(0, 2, 20).tolist()
        rows.append(np.cumsum([user, *(1 - 2 * late for late in later)]).__mod__(N).tolist())
        gaps.append([UNKNOWN, *later])
    told = sasrec.train(rows, N, SMALL, seed=0, gaps=gaps)
    for late in (0, 1):
        best = sasrec.scores(told, [[3, 4, 5], [8]], [[UNKNOWN, 0, 0, late], [UNKNOWN, late]]).argmax(1)
        assert best.tolist() == [6 - 2 * late, 9 - 2 * late]
    untold = sasrec.scores(told, [[3, 4, 5]])
    np.testing.assert_array_equal(untold, sasrec.scores(told, [[3, 4, 5]], [[UNKNOWN] * 4]))


def test_what_is_read_in_another_order_at_each_pass_is_learned_both_ways() -> None:
    """Everyone has 2 i and 2 i + 1 on one day and stands them in this order; then 0 on another day."""
    rows = [[2 * (user % 5) + 2, 2 * (user % 5) + 3, 0] for user in range(60)]
    longer = SMALL.model_copy(update={"epochs": 80, "dropout": 0.0})
    as_it_stands = sasrec.train(rows, N, longer, seed=0)
    free = sasrec.train(rows, N, longer, seed=0, ties=[[slice(0, 2)]] * 60)
    pairs = [(2 * i + 2, 2 * i + 3) for i in range(5)]
    ahead, back = [[a] for a, _ in pairs], [[b] for _, b in pairs]
    assert sasrec.scores(as_it_stands, ahead).argmax(1).tolist() == [b for _, b in pairs]
    assert sasrec.scores(as_it_stands, back).argmax(1).tolist() == [0] * 5
    assert sasrec.scores(free, [*ahead, *back]).argmax(1).tolist() == [b for _, b in pairs] + [a for a, _ in pairs]
    assert sasrec.scores(free, [[a, b] for a, b in pairs] + [[b, a] for a, b in pairs]).argmax(1).tolist() == [0] * 10


def test_embeddings_start_as_they_are_told_and_at_random_beyond() -> None:
    start_ND = torch.arange(float(N * 3)).view(N, 3)
    still = SMALL.model_copy(update={"epochs": 1, "learning_rate": 1e-12})
    items = sasrec.train(cyclic_shop(), N, still, seed=0, start_ND=start_ND).item.weight.detach()
    torch.testing.assert_close(items[:N, :3], start_ND)
    assert items[:N, 3:].std().item() == pytest.approx(sasrec.INIT, rel=0.2)  # 156 draws: deviation 6 %
    assert items[N, :3].abs().max() < 1  # where a context starts there is no text


def test_an_item_that_nobody_took_is_known_by_its_text() -> None:
    """Two more items than the circle has, with the texts of 3 and of 7."""
    texts = torch.eye(N)
    start_ND = 2 * torch.cat([texts, texts[[3, 7]]])
    rows = [[item % N for item in events] for events in cyclic_shop()]
    slowly = SMALL.model_copy(update={"learning_rate": 5e-3, "epochs": 40})
    taught = sasrec.train(rows, N + 2, slowly, seed=0, start_ND=start_ND)
    like_3, like_7 = sasrec.scores(taught, [[1, 2], [5, 6]])[:, N:].T
    assert like_3[0] - like_7[0] > 1
    assert like_7[1] - like_3[1] > 1


def test_blind_windows_are_told_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    batches = sasrec._batches

    def look(windows, *rest):
        seen.append(sum(all(gap == UNKNOWN for _, gap in window) for window in windows))
        return batches(windows, *rest)

    monkeypatch.setattr(sasrec, "_batches", look)
    rows, once = [[user % N, (user + 1) % N] for user in range(400)], SMALL.model_copy(update={"epochs": 1})
    for blind in (0.0, 0.25, 1.0):
        sasrec.train(rows, N, once, seed=0, gaps=[[UNKNOWN, 1]] * 400, blind=blind)
    assert seen[0] == 0
    assert 75 < seen[1] < 125  # 100 expected, deviation 8.7
    assert seen[2] == 400


def test_the_gap_before_the_oldest_event_that_is_read_is_unknown() -> None:
    """As in training, where a window's first event has none before it."""
    told = sasrec.train(cyclic_shop(4), N, SMALL, seed=0, gaps=[[UNKNOWN, *[1] * 19]] * 4)
    assert torch.equal(
        sasrec._batch(torch.tensor([sasrec._columns([events(3, 4, gap=2), events(5, 6, gap=1)], N, 6)])).gaps,
        torch.tensor([[UNKNOWN, 2, UNKNOWN, 1, UNKNOWN, UNKNOWN]]),
    )
    long, short = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(
        sasrec.scores(told, [long], [[UNKNOWN, *[1] * 10]]), sasrec.scores(told, [short], [[UNKNOWN, *[1] * 7]])
    )


def test_a_state_does_not_see_what_comes_after_it(model: sasrec.Sasrec) -> None:
    lines = [sasrec._columns([events(1, 2, last, 0)], N, 4) for last in (3, 9)]
    with torch.inference_mode():
        one, other = model(sasrec._batch(torch.tensor(lines)))
    torch.testing.assert_close(one[:3], other[:3])
    assert not torch.allclose(one[3], other[3])


def test_the_same_seed_gives_the_same_model(model: sasrec.Sasrec) -> None:
    again = sasrec.train(cyclic_shop(), N, SMALL, seed=0)
    np.testing.assert_array_equal(sasrec.scores(again, [[1, 2]]), sasrec.scores(model, [[1, 2]]))


def test_save_and_load(model: sasrec.Sasrec, tmp_path) -> None:
    sasrec.save(model, tmp_path / "sasrec")
    loaded = sasrec.load(tmp_path / "sasrec")
    np.testing.assert_array_equal(sasrec.scores(loaded, [[1, 2]]), sasrec.scores(model, [[1, 2]]))
    assert sasrec.load_config(tmp_path / "sasrec") == loaded.config == SMALL
    with pytest.raises(UserError, match="not there"):
        sasrec.load(tmp_path / "elsewhere")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 3))
def test_windows_cut_a_sequence_without_loss(length: int, size: int, seed: int) -> None:
    windows = list(sasrec._windows([events(*range(length))], size, np.random.default_rng(seed)))
    assert [event for window in windows for event in window] == events(*range(length))
    assert all(1 <= len(window) <= size for window in windows)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=30))
def test_lines_hold_every_window_and_never_more_than_fits(lengths: list[int]) -> None:
    windows = [events(i) * length for i, length in enumerate(lengths)]
    lines = sasrec._lines(windows, 10)
    assert sorted(window for line in lines for window in line) == windows
    assert all(1 <= sum(map(len, line)) <= 10 for line in lines)


def test_short_windows_fill_lines() -> None:
    # 7 + 3, 5 + 5 and 4 + 4 + 2 of 10
    assert len(sasrec._lines([events(0) * n for n in (4, 7, 5, 2, 3, 5, 4)], 10)) == 3


def test_windows_of_one_line_are_blind_to_each_other(model: sasrec.Sasrec) -> None:
    first, second = [1, 2, 3], [5, 6]
    batch = sasrec._batch(torch.tensor([sasrec._columns([events(*first), events(*second)], N, SMALL.max_length)]))
    assert batch.inputs.tolist() == [[N, 1, 2, N, 5, N, N, N]]
    assert batch.targets.tolist() == [[1, 2, 3, 5, 6, *[sasrec.IGNORED] * 3]]
    with torch.inference_mode():
        logits = model.logits(model(batch))[0, :5].numpy()
    alone = sasrec.scores(model, [[], [1], [1, 2], [], [5]])
    np.testing.assert_allclose(logits, alone, atol=1e-5)


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout = sasrec.Dropout(0.2)
    kept = dropout(torch.ones(100_000))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.8])
    # The mean of 100,000 draws has a standard error of sqrt(.2 / .8 / 100,000) = .0016.
    assert kept.mean().item() == pytest.approx(1, abs=0.008)
    assert dropout.eval()(torch.ones(9)).tolist() == [1] * 9
