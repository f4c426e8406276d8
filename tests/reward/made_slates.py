"""Slates of five candidates with the target at a given place, and answers to them."""

from gr2.types import Answer, AnswerStatus, Slate, Split

K = 5
IDENTITY = tuple(range(K))


def slate_of(gains) -> Slate:
    return Slate(
        slate_id=f"u:{'-'.join(map(str, gains))}",
        user_id="u",
        split=Split.TRAIN,
        time=0,
        history=("h",),
        candidates=tuple(f"c{i}" for i in range(len(gains))),
        scores=tuple(float(-i) for i in range(len(gains))),
        gains=tuple(gains),
    )


def with_target(place: int, k: int = K) -> Slate:
    return slate_of([int(i == place) for i in range(k)])


def valid(*order) -> Answer:
    return Answer(status=AnswerStatus.VALID, order=tuple(order), thought="")


INVALID_STATUSES = [s for s in AnswerStatus if s is not AnswerStatus.VALID]


def invalid(status) -> Answer:
    return Answer(status=status, order=IDENTITY, thought="")
