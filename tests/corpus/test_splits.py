import pytest
from hypothesis import given
from hypothesis import strategies as st

from gr2.corpus.splits import check_no_leak, split_log
from gr2.errors import UserError
from gr2.types import Split, Timeline

TRAIN, VALID, TEST = Split.TRAIN, Split.VALID, Split.TEST


def timeline(times, splits, items="abcdefgh"):
    return Timeline(user_id="u", item_ids=tuple(items[: len(times)]), times=tuple(times), splits=tuple(splits))


def test_last_events_are_held_out():
    log = {"u": [("a", 1), ("b", 2), ("c", 2), ("d", 9), ("e", 9)], "short": [("a", 1), ("b", 2), ("c", 3), ("d", 4)]}
    long, short = split_log(log, n_valid=1, n_test=2, min_train=2)
    assert long.splits == (TRAIN, TRAIN, VALID, TEST, TEST)
    assert long.item_ids == ("a", "b", "c", "d", "e")
    assert short.splits == (TRAIN,) * 4


def test_nobody_long_enough_is_a_user_error():
    with pytest.raises(UserError, match=r"no user has min_train \+ n_valid \+ n_test = 3 events \(the most is 2\)"):
        split_log({"u": [("a", 1), ("b", 2)]}, n_valid=1, n_test=1, min_train=1)


@given(st.lists(st.integers(1, 12), min_size=1), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_every_event_is_kept_in_order(lengths, n_valid, n_test, min_train):
    lengths.append(9)
    log = {str(u): [(str(i), i) for i in range(n)] for u, n in enumerate(lengths)}
    for t in split_log(log, n_valid=n_valid, n_test=n_test, min_train=min_train):
        assert list(zip(t.item_ids, t.times, strict=True)) == log[t.user_id]
        held_out = len(t.splits) >= min_train + n_valid + n_test
        assert t.splits.count(TEST) == n_test * held_out
        assert t.splits.count(VALID) == n_valid * held_out


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (timeline((1, 3, 2), (TRAIN, VALID, TEST)), "'u', event 3: earlier than the one before"),
        (timeline((1, 2, 3), (TRAIN, TEST, VALID)), "'u', event 3: splits must go train, valid, test"),
        (timeline((1, 2, 2), (TRAIN, VALID, TEST), items="abb"), "item 'b' at time 2 is in two splits"),
    ],
)
def test_leaks_raise(bad, message):
    with pytest.raises(UserError, match=message):
        check_no_leak([bad])


def test_an_item_bought_again_later_is_no_leak():
    check_no_leak([timeline((1, 2, 3), (TRAIN, VALID, TEST), items="aba")])
