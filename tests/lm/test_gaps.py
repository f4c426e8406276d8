"""Gaps between events: by hand, in prompts and tasks alike, and learned in a shop where the gap decides."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import shop
import torch

from gr2.artifacts import Corpus
from gr2.lm.alignment import AlignmentTasks, Mix
from gr2.lm.checkpoint import Checkpoint, assemble
from gr2.lm.nano import new_model, train_tokenizer
from gr2.lm.rank import voices_at_once
from gr2.lm.train import FitConfig
from gr2.lm.vocabulary import grow
from gr2.prompt.gaps import GAPS, UNKNOWN, gap_numbers
from gr2.prompt.render import CANDIDATES, HISTORY
from gr2.retrieve.beam import beam_items
from gr2.stages import s03_midtrain
from gr2.types import DAY, Slate, Split, Timeline

SOME_TIME, SAME_DAY, SAME_WEEK, LONG_AFTER = "<|some_time|>", "<|same_day|>", "<|same_week|>", "<|long_after|>"
YEAR = 365 * DAY


def checkpoint() -> Checkpoint:
    tokenizer = train_tokenizer([i.text for i in shop.items()], shop.NANO.words)
    grow(tokenizer, shop.semantic_ids(), markers=False, gaps=True)
    model = new_model(shop.NANO, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
    return assemble(
        model.eval(),
        tokenizer,
        shop.corpus(),
        shop.semantic_ids(),
        template="nano",
        markers=False,
        history=3,
        gaps=True,
    )


CHECKPOINT = checkpoint()
SLATE = replace(
    shop.slates(1, Split.TEST)[0], history=("i00", "i01", "i23"), history_times=(0, DAY - 1, 8 * DAY), time=9 * DAY
)


def test_gaps_by_hand():
    assert gap_numbers([]) == []
    times = [5, 5, 5 + DAY - 1, 4 + 2 * DAY, 4 + 9 * DAY, 4 + 39 * DAY, 4 + 300 * DAY]
    assert gap_numbers(times) == [UNKNOWN, 0, 0, 1, 2, 3, 4]
    assert gap_numbers([9, 3]) == [UNKNOWN, 0]  # a clock that was put back


def test_prompts_say_them_before_every_event_and_before_the_candidates():
    ids = ["<s_a_0><s_b_0>", "<s_a_0><s_b_1>", "<s_a_2><s_b_3>"]
    said = CHECKPOINT.renderer.prompt(SLATE, think=True)
    gaps = [SOME_TIME, SAME_DAY, "<|same_month|>"]
    past = "".join(gap + item for gap, item in zip(gaps, ids, strict=True))
    assert said.startswith(f"{HISTORY}{past}{SAME_WEEK}{CANDIDATES}")
    unknown = CHECKPOINT.renderer.prompt(replace(SLATE, history_times=()), think=True)
    assert unknown.startswith(f"{HISTORY}{''.join(SOME_TIME + item for item in ids)}{SOME_TIME}{CANDIDATES}")
    newest = replace(CHECKPOINT.renderer, history=1).prompt(SLATE, think=True)
    assert newest.startswith(f"{HISTORY}{SOME_TIME}{ids[2]}{SAME_WEEK}{CANDIDATES}")
    nobody = CHECKPOINT.renderer.prompt(replace(SLATE, history=(), history_times=()), think=True)
    assert nobody.startswith(f"{HISTORY}{SOME_TIME}{CANDIDATES}")


def test_short_contexts_have_no_known_gaps():
    short = replace(CHECKPOINT.renderer, short=lambda history: tuple(history[:1]))
    assert short.prompt(SLATE, think=True).startswith(f"{HISTORY}{SOME_TIME}<s_a_0><s_b_0>{SOME_TIME}{CANDIDATES}")


@pytest.mark.parametrize(
    "slate", [SLATE, replace(SLATE, history_times=()), replace(SLATE, history=(), history_times=())]
)
def test_a_history_alone_is_how_its_prompt_begins(slate: Slate):
    renderer = CHECKPOINT.renderer
    alone = CHECKPOINT.history_tokens(renderer.shown(slate), renderer.times(slate))
    prompt = CHECKPOINT.tokenizer(renderer.prompt(slate, think=False), add_special_tokens=False)["input_ids"]
    assert prompt[: len(alone)] == alone
    assert CHECKPOINT.tokenizer.convert_ids_to_tokens(prompt[len(alone)]) == CANDIDATES
    assert len(alone) == 2 + len(slate.history) * CHECKPOINT.item_length


@torch.inference_mode()
def test_a_beam_hears_them():
    histories, times = [("i00", "i01", "i23", "i40"), ("i00",), ()], [(0, 0, YEAR, YEAR, YEAR), (), (7,)]
    lists = beam_items(CHECKPOINT, histories, times, 24, label=None)
    for history, of, items in zip(histories, times, lists, strict=True):
        read = torch.tensor([CHECKPOINT.history_tokens(history[-3:], of[-4:])] * len(items))
        spelled = CHECKPOINT.id_tokens.of(items)
        logp = CHECKPOINT.model(torch.cat([read, spelled], 1)).logits.log_softmax(-1)[:, read.shape[1] - 1 : -1]
        scores = logp.gather(-1, spelled[..., None]).sum((1, 2))
        assert (scores.diff() <= 1e-4).all()
    assert lists[0] != beam_items(CHECKPOINT, histories, [()] * 3, 24, label=None)[0]


def moody(users: int) -> Corpus:
    """Who goes on within a day stays in the department, and who comes back after a year goes to the next one."""
    rng, timelines = np.random.default_rng(0), []
    for user in range(users):
        department, time, items, times = user % shop.DEPARTMENTS, 0, [], []
        for _ in range(8):
            gap = int(rng.integers(2))
            department, time = (department + gap) % shop.DEPARTMENTS, time + 1 + gap * YEAR
            items.append(shop.item_id(department, int(rng.integers(shop.SHELVES))))
            times.append(time)
        splits = (*[Split.TRAIN] * 6, Split.VALID, Split.TEST)
        timelines.append(Timeline(user_id=f"u{user}", item_ids=tuple(items), times=tuple(times), splits=splits))
    return Corpus(items=shop.items(), timelines=tuple(timelines))


def tasks(corpus: Corpus) -> AlignmentTasks:
    return AlignmentTasks(
        corpus, CHECKPOINT.id_tokens, CHECKPOINT.tokenizer, Mix(), history=3, k=shop.K, gaps=True
    )  # fmt: skip


def test_tasks_say_them_as_prompts_do():
    corpus = moody(40)
    drawn = tasks(corpus)
    told = {
        tuple(CHECKPOINT.history_tokens(t.item_ids[a:b], t.times[a : b + 1])[:-1])
        for t in corpus.timelines
        for a in range(6)
        for b in range(a + 1, min(7, a + 4))
    }
    rows = [row for epoch in range(5) for batch in drawn.histories(np.random.default_rng(epoch), 30) for row in batch]
    gaps = set(CHECKPOINT.tokenizer.convert_tokens_to_ids(list(GAPS)))
    some_time = CHECKPOINT.tokenizer.convert_tokens_to_ids(SOME_TIME)
    blind = 0
    for row in rows:
        if tuple(row.tokens) not in told:
            assert {token for token in row.tokens if token in gaps} == {some_time}
            blind += 1
        for at, item in row.begins.items():
            assert row.tokens[at - 1] in gaps
            assert row.tokens[at : at + 2] == CHECKPOINT.id_tokens.spelled[item].tolist()
        assert [t for t, counts in zip(row.tokens, row.counts, strict=True) if not counts] == [
            t for t in row.tokens if t in gaps or t == row.tokens[0]
        ]
    assert len({len(row.begins) for row in rows}) > 1
    assert 0.03 < blind / len(rows) < 0.2  # every tenth, but for windows of one event, which look alike


def test_a_slate_row_asks_when_before_it_lists_the_candidates():
    drawn, rng = tasks(moody(40)), np.random.default_rng(0)
    listed = CHECKPOINT.tokenizer.convert_tokens_to_ids(CANDIDATES)
    gaps = CHECKPOINT.tokenizer.convert_tokens_to_ids(list(GAPS))
    for _ in range(20):
        row = drawn.slate(rng)
        at = row.tokens.index(listed)
        assert row.tokens[at - 1] in gaps
        assert row.tokens[1 : at - 1 : 3] == [t for t in row.tokens[1 : at - 1] if t in gaps]
        assert len(row.tokens) == len(row.counts)
        assert not any(row.counts[i] for i, token in enumerate(row.tokens) if token in gaps)


def mid_trained(corpus: Corpus, gaps: bool | None, folder) -> Checkpoint:
    config = s03_midtrain.Config(
        nano=shop.NANO, base=False, history=5, k=shop.K, histories=80, gaps=gaps,
        fit=FitConfig(steps=200, batch_size=4, learning_rate=1e-2, warmup_steps=10),
    )  # fmt: skip
    vectors = np.random.default_rng(0).normal(size=(24, 8))
    return s03_midtrain.midtrain(corpus, shop.semantic_ids(), config, 0, shop.work(folder), vectors)


def test_mid_training_learns_what_a_gap_says(tmp_path):
    """At best log 4 = 1.39 nats an item; who is not told the gap cannot have less than log 8 = 2.08."""
    corpus = moody(120)
    told = mid_trained(corpus, True, tmp_path / "told")
    assert s03_midtrain.validation_nats(told, corpus)["nats_by_head"] < log(8) - 0.2
    told.save(tmp_path / "saved")
    again = Checkpoint.load(tmp_path / "saved", corpus, shop.semantic_ids())
    slates = []
    for n, slate in enumerate(shop.slates(60, Split.TEST)):
        department, later = int(slate.history[-1][1]), n % 2
        other = (department + 1) % shop.DEPARTMENTS
        slates.append(
            replace(
                slate,
                history_times=(0, 0, 0),
                time=later * YEAR,
                candidates=(shop.item_id(department, 0), shop.item_id(other, 0)),
                scores=(1.0, 0.0),
                gains=(1 - later, later),
            )
        )
    with torch.inference_mode():
        firsts = voices_at_once(again, slates)[..., 2].argmax(1).tolist()
    assert sum(first == slate.target for first, slate in zip(firsts, slates, strict=True)) > 54
