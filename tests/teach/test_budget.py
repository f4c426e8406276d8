import asyncio

import pytest

from gr2.teach.budget import Budget, Prices, Spent, Usage


def budget(tokens=100, cost=None, prices=None):
    return Budget(max_tokens=tokens, max_cost=cost, prices=prices or Prices())


def test_prices_by_hand():
    prices = Prices(million_in=0.5, million_out=2.0)
    assert prices.of(Usage(tokens_in=3_000_000, tokens_out=250_000)) == 3 * 0.5 + 0.25 * 2.0


def test_what_is_held_is_not_spent_twice():
    async def story():
        purse = budget(100)
        await purse.reserve(Usage(tokens_in=60))
        second = asyncio.create_task(purse.reserve(Usage(tokens_in=50)))
        await asyncio.sleep(0)
        assert not second.done()  # 60 + 50 > 100: it waits for what the first will really cost
        await purse.settle(Usage(tokens_in=60), Usage(tokens_in=20, tokens_out=10))
        await second  # 30 + 50 <= 100
        await purse.settle(Usage(tokens_in=50), Usage(tokens_in=50))
        assert purse.spent == Usage(tokens_in=70, tokens_out=10)
        with pytest.raises(Spent):
            await purse.reserve(Usage(tokens_in=21))
        await purse.reserve(Usage(tokens_in=20))

    asyncio.run(story())


def test_one_that_waits_in_vain_is_told():
    async def story():
        purse = budget(100)
        await purse.reserve(Usage(tokens_in=60))
        second = asyncio.create_task(purse.reserve(Usage(tokens_in=50)))
        await purse.settle(Usage(tokens_in=60), Usage(tokens_in=60))
        with pytest.raises(Spent):
            await second

    asyncio.run(story())


def test_money():
    async def story():
        purse = budget(10**9, cost=1.0, prices=Prices(million_in=1.0, million_out=4.0))
        await purse.reserve(Usage(tokens_in=500_000, tokens_out=125_000))  # 0.5 + 0.5
        await purse.settle(Usage(tokens_in=500_000, tokens_out=125_000), Usage(tokens_in=500_000, tokens_out=100_000))
        assert purse.cost == 0.5 + 0.4
        with pytest.raises(Spent):
            await purse.reserve(Usage(tokens_out=25_001))
        await purse.reserve(Usage(tokens_out=25_000))

    asyncio.run(story())


def test_what_was_paid_before_counts_and_is_never_refused():
    async def story():
        purse = budget(100)
        purse.count(Usage(tokens_in=150))
        assert purse.spent.tokens == 150
        with pytest.raises(Spent):
            await purse.reserve(Usage(tokens_in=1))

    asyncio.run(story())
