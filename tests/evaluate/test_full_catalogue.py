import math

import numpy as np
import pytest
import shop

from gr2.evaluate.full_catalogue import WIDTH, Question, measured, places, questions, rows, sasrec_ranks
from gr2.retrieve import sasrec
from gr2.retrieve.sasrec import Sasrec, SasrecConfig
from gr2.types import Split


def asked(history: str, target: str) -> Question:
    return Question(user="u", history=tuple(history), times=(), target=target)


def test_questions_know_all_that_came_before() -> None:
    corpus = shop.corpus(users=4)
    found = questions(corpus, Split.TEST)
    assert [q.user for q in found] == ["u0", "u1", "u2", "u3"]
    assert all(
        (*q.history, q.target) == t.item_ids and len(q.history) == 7
        for q, t in zip(found, corpus.timelines, strict=True)
    )


def test_ranks_by_both_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {item: n for n, item in enumerate("abcde")}
    scores = np.array([[5.0, 4, 3, 2, 1], [5, 4, 3, 3, 1], [5, 4, 3, 2, 1]], dtype=np.float32)
    monkeypatch.setattr(sasrec, "scores", lambda model, histories: scores[: len(histories)])
    model = Sasrec(5, SasrecConfig(dim=2, layers=1, heads=1))
    # before d stand a, b, c, of which two were had; c ties with d and counts before it; a taken again stays in
    three = [asked("ab", "d"), asked("ab", "d"), asked("ab", "a")]
    ranks = sasrec_ranks(model, three, row)
    assert ranks["all"].tolist() == [3, 3, 0]
    assert ranks["unseen"].tolist() == [1, 1, 0]


def test_metrics_by_hand() -> None:
    values = measured(np.array([0, 2, 9, 10]))
    assert values["R@10"].tolist() == [1, 1, 1, 0]
    assert values["N@10"].tolist() == pytest.approx([1, 1 / 2, 1 / math.log2(11), 0])


def test_places_in_lists() -> None:
    assert places([asked("a", "c"), asked("a", "z")], ["abc", "abc"]).tolist() == [2, WIDTH]


def test_rows_pool_seeds_and_stand_beside_the_papers() -> None:
    users = [Question(user=f"u{n}", history=(), times=(), target="a") for n in range(4)]
    seeds = [{"unseen": np.array([0, 10, 10, 10])}, {"unseen": np.array([0, 0, 10, 10])}]
    made = {r.metric: r for r in rows("beauty-catalogue", "SASRec, full cross-entropy", users, seeds)}
    assert made["R@10"].ours == (1 / 4 + 2 / 4) / 2
    assert made["R@10"].more == {"by_seed": [0.25, 0.5]}
    assert (made["R@10"].paper, made["R@10"].match, made["R@10"].n) == (0.0897, "yes", 4)
    assert made["R@10"].low <= made["R@10"].ours <= made["R@10"].high
