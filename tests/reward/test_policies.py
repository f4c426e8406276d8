"""The fixed policies on slates whose target stands at every place alike."""

from dataclasses import replace
from math import log2

import pytest
from made_slates import K, with_target

from gr2.artifacts import Slates
from gr2.reward import policies
from gr2.reward.forms import FORM_NAMES

SLATES = [with_target(t) for t in range(K)]
TRIED = policies.try_policies(SLATES, alpha=0.2, seed=0)
MANY = [replace(s, slate_id=str(i)) for i, s in enumerate(SLATES * 200)]
DISCOUNTS = [1 / log2(rank + 1) for rank in range(1, K + 1)]


def test_keeping_the_order_by_hand():
    paid = TRIED["keep the order"].paid
    assert paid["conditional"] == pytest.approx(0.2 / K)  # where the target came first
    assert paid["auc"] == paid["ndcg"] == pytest.approx(0.2 + 1 / K)
    assert paid["gain"] == 0


def test_the_swapped_tail_by_hand():
    paid = TRIED["swap the last two"].paid
    # one target moves up a place of five, one down; the format is paid for it and for the target that stays first
    assert paid["conditional"] == pytest.approx((0.2 + (1 / K + 0.2) - 1 / K) / K)
    assert paid["auc"] == pytest.approx(0.2 + 1 / 2)  # all that the places inherit on average
    assert paid["ndcg"] == pytest.approx(0.2 + sum(DISCOUNTS) / K)
    assert paid["gain"] == pytest.approx(0, abs=1e-9)


def test_the_oracle_by_hand():
    paid = TRIED["oracle"].paid
    assert paid["conditional"] == pytest.approx(0.2 + (0 + 1 + 2 + 3 + 4) / K / K)
    assert paid["auc"] == paid["ndcg"] == pytest.approx(1.2)
    assert paid["gain"] == pytest.approx(1 - sum(DISCOUNTS) / K)
    assert TRIED["oracle"].hacks == frozenset()


def test_the_oracle_of_the_tail_moves_only_the_tail():
    assert policies.tail_only(with_target(4), None) == [0, 1, 2, 4, 3]
    assert policies.tail_only(with_target(1), None) == [0, 1, 2, 3, 4]
    assert policies.one_up(with_target(4), None) == [0, 1, 2, 4, 3]


@pytest.mark.parametrize("name", policies.WRONG)
def test_every_way_to_be_invalid_costs(name):
    assert TRIED[name].ndcg is None
    assert TRIED[name].paid == dict.fromkeys(FORM_NAMES, -1.0)


def test_the_oracle_is_paid_best_and_hacks_are_found():
    many = policies.try_policies(MANY, alpha=0.2, seed=0)
    for form in FORM_NAMES:
        assert max(many, key=lambda name: many[name].paid[form]) == "oracle"
    assert {"auc", "ndcg"} <= many["swap the last two"].hacks
    assert "gain" not in many["swap the last two"].hacks
    bold = next(line for line in policies.markdown(many) if line.startswith("| swap the last two"))
    assert bold.count("**") == 2 * len(many["swap the last two"].hacks)


def test_shuffled_places_carry_no_answer():
    """Shown at random, a blind policy is a random one: all earn alike but for noise."""
    many = policies.try_policies(MANY, alpha=0.2, seed=0, shuffled=True)
    for form in FORM_NAMES:
        paid = [many[name].paid[form] for name in ("keep the order", "swap the last two", "second first", "random")]
        assert max(paid) - min(paid) < 0.05


def test_the_command_prints_a_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "04_slates").mkdir()
    Slates(slates=tuple(SLATES)).save(tmp_path / "04_slates")
    monkeypatch.setattr("sys.argv", ["policies", str(tmp_path)])
    policies.main()
    assert "5 training slates, shown as they came in" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "says"), [([], "usage"), (["nowhere"], "nowhere/04_slates/slates.parquet: not")])
def test_the_command_says_what_is_wrong(arguments, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["policies", *arguments])
    with pytest.raises(SystemExit) as ended:
        policies.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
