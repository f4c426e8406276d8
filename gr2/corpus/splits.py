"""Which events may be learnt from: each user's last ones are held out (P1 holds out one), and leaks raise."""

from collections.abc import Iterable, Mapping, Sequence

from gr2.errors import UserError
from gr2.types import Split, Timeline

Log = Mapping[str, Sequence[tuple[str, int]]]
"""user id -> (item id, time) of each event, oldest first: what a reader gives."""

ORDER = (Split.TRAIN, Split.VALID, Split.TEST)


def split_log(log: Log, *, n_valid: int, n_test: int, min_train: int) -> tuple[Timeline, ...]:
    """A user's last `n_test` events are test, the `n_valid` before them valid, the rest train.

    A user with fewer than min_train + n_valid + n_test events keeps all of them for training.
    Raises UserError where `check_no_leak` does, and when no user at all has enough events.
    """
    needed = min_train + n_valid + n_test
    timelines = tuple(
        Timeline(
            user_id=user_id,
            item_ids=tuple(item_id for item_id, _ in events),
            times=tuple(time for _, time in events),
            splits=_splits(len(events), n_valid, n_test, needed),
        )
        for user_id, events in log.items()
    )
    longest = max((len(t.item_ids) for t in timelines), default=0)
    if longest < needed:
        raise UserError(
            f"[corpus] no user has min_train + n_valid + n_test = {needed} events (the most is {longest}): lower them"
        )
    check_no_leak(timelines)
    return timelines


def _splits(n: int, n_valid: int, n_test: int, needed: int) -> tuple[Split, ...]:
    if n < needed:
        return (Split.TRAIN,) * n
    return (Split.TRAIN,) * (n - n_valid - n_test) + (Split.VALID,) * n_valid + (Split.TEST,) * n_test


def check_no_leak(timelines: Iterable[Timeline]) -> None:
    """Raises UserError when a time decreases, splits are out of order, or one event stands in two splits.

    Two events are one when user, item and time are equal: a duplicated row would put its answer into the history.
    """
    for t in timelines:
        where = f"timeline of user {t.user_id!r}"
        for position in range(1, len(t.times)):
            if t.times[position] < t.times[position - 1]:
                raise UserError(f"{where}, event {position + 1}: earlier than the one before; sort the log by time")
            if ORDER.index(t.splits[position]) < ORDER.index(t.splits[position - 1]):
                raise UserError(
                    f"{where}, event {position + 1}: splits must go train, valid, test; run s01_corpus again"
                )
        split_of: dict[tuple[str, int], Split] = {}
        for item_id, time, split in zip(t.item_ids, t.times, t.splits, strict=True):
            if split_of.setdefault((item_id, time), split) is not split:
                raise UserError(
                    f"{where}: item {item_id!r} at time {time} is in two splits; remove the duplicate row from the log"
                )
