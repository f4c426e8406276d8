import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from gr2.artifacts import Corpus, MetricValue, Rankings, Scores, SemanticIds, Slates
from gr2.errors import UserError
from gr2.evaluate.headline import beside_advice, headline, p_text, served_mode
from gr2.evaluate.markdown import MARKER, fill, markdown
from gr2.evaluate.propensity import Examination
from gr2.evaluate.report import series_of, write_report
from gr2.evaluate.slices import HeldOut
from gr2.evaluate.table import evaluate
from gr2.record import stage_folder, write_json
from gr2.types import AnswerStatus, Item, Ranking, Slate, Split, Timeline

K = 4
ITEMS = tuple(Item(item_id=f"i{n}", title=f"<b>Film & {n}</b>") for n in range(12))
IDS = SemanticIds(
    item_ids=tuple(i.item_id for i in ITEMS),
    codes=np.array([[n // 4, n % 4] for n in range(12)]),
    codebook_sizes=(3, 4),
    codebooks=(np.eye(3, dtype=np.float32), np.eye(4, 3, dtype=np.float32)),
)
LEVEL = {
    "size": 4,
    "usage": 1.0,
    "perplexity": 3.5,
    "distinct_prefixes": 12,
    "unique_prefix_share_before": 0.5,
    "unique_prefix_share": 1.0,
    "reconstruction_error": 0.3,
}


def make_slates(n=30):
    rng = random.Random(0)
    made = []
    for i in range(n):
        candidates = tuple(f"i{c}" for c in rng.sample(range(12), K))
        gains = [0] * K
        gains[rng.randrange(K)] = 1
        made.append(
            Slate(
                slate_id=f"u{i}:5",
                user_id=f"u{i}",
                split=Split.TEST,
                time=i,
                history=("i0", "i1") if i else (),
                candidates=candidates,
                scores=(0.4, 0.3, 0.2, 0.1),
                gains=tuple(gains),
            )
        )
    return made


SLATES = make_slates()


EVENTS = [
    HeldOut(slate_id=f"u{i}:{at}", user_id=f"u{i}", history=i, gap=i, popularity=i)
    for i in range(len(SLATES))
    for at in (5, 6)
]


def oracle(slate):
    order = sorted(range(K), key=lambda c: -slate.gains[c])
    return Ranking(
        slate_id=slate.slate_id, order=tuple(order), thought="likes [c1]<s_a_0><s_b_1>, <script>alert(1)</script>"
    )


def anti(slate):
    order = sorted(range(K), key=lambda c: slate.gains[c])
    return Ranking(slate_id=slate.slate_id, order=tuple(order), status=AnswerStatus.VALID)


def echo(slate):
    return Ranking(slate_id=slate.slate_id, order=tuple(range(K)))


def make_run(run, gr2, examination=None):
    rankers = {"incoming": echo, "lambdamart": echo, **gr2}
    answers = {name: tuple(map(ranker, SLATES)) for name, ranker in rankers.items()}
    with stage_folder(run / "01_corpus", {}, {}) as work:
        timeline = Timeline(user_id="u0", item_ids=("i0",), times=(0,), splits=(Split.TRAIN,))
        Corpus(items=ITEMS, timelines=(timeline,)).save(work.path)
    with stage_folder(run / "02_sids", {}, {}) as work:
        IDS.save(work.path)
        report = {"n_items": 12, "unique_share_before": 0.5, "unique_share": 1.0, "levels": [LEVEL, LEVEL]}
        write_json(work.path / "report.json", report)
    with stage_folder(run / "04_slates", {}, {}) as work:
        Slates(slates=tuple(SLATES)).save(work.path)
        if examination:
            write_json(work.path / "examination.json", examination)
    with stage_folder(run / "06_sft", {}, {}) as work:
        for step in range(10, 1000, 10):
            work.metric(phase="sft", step=step, loss=1 / step)
        work.metric(phase="sft_valid", step=500, r1_thinking=0.2, r1_direct=0.1)
    evaluation = run / "13_evaluate.partial"
    evaluation.mkdir()
    events, examined = {s.user_id: 2 for s in SLATES}, Examination.load(run / "04_slates")
    scores = evaluate(SLATES, events, answers, "lambdamart", held_out=EVENTS, examination=examined)
    scores.save(evaluation)
    for name, rankings in answers.items():
        (evaluation / name).mkdir()
        Rankings(ranker=name, rankings=rankings).save(evaluation / name)
    return evaluation / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "a<i>b"
    out = make_run(run, {"gr2_direct": anti, "gr2_thinking": oracle})
    rows = [{"table": "ablation", "mode": "gr2_thinking", "metric": "R@1", "component": "ids<b>"}]
    effects = {"ours": -0.1, "low": -0.2, "high": 0.1}
    (run.parent / "a<i>b-ablate").mkdir()
    write_json(run.parent / "a<i>b-ablate" / "ablation.json", {"rows": [rows[0] | effects]})
    write_report(run, out)
    return out.read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Raises when a tag is closed that is not open, and keeps what asks for something outside the page."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href") and not (v or "").startswith("data:")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(page):
    seen = Balance()
    seen.feed(page)
    assert seen.open == []
    assert seen.outside == []
    assert "script" not in seen.tags
    assert "url(" not in page
    assert "@import" not in page


def test_titles_and_thoughts_are_escaped(page):
    assert "<b>Film" not in page
    assert "&lt;b&gt;Film &amp; " in page
    assert "&lt;script&gt;alert(1)" in page
    assert "a&lt;i&gt;b" in page


def test_the_page_has_every_part(page):
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "When the target is in the slate",
        "End to end",
        "Slices",
        "Probes",
        "Where the answers come from",
        "Ablation",
        "Semantic ids",
        "Training",
        "Ten slates",
        "Time",
    ]
    assert page.count('<article class="slate">') == 10
    assert page.count("<cite>&lt;b&gt;Film &amp; 1&lt;/b&gt;</cite>") > 0
    assert "30 test slates" in page
    assert "All 60 held-out events" in page
    for name in ("incoming", "lambdamart", "gr2 thinking", "gr2 direct"):
        assert page.count(f'<tr class="{"gr2" * name.startswith("gr2")}"><th>{name}') == 3  # both tables and the probes
    assert all(f"published: {gain}" in page for gain in ("+18.7%", "+7.1%", "+9.6%"))


def test_values_stand_in_the_table(page):
    assert "<b>1.000</b><small>1.000 to 1.000</small>" in page
    assert "<b>0.500</b>" in page  # the oracle end to end: 30 hits in 60 events


def test_every_slice_of_every_metric_is_there(page):
    assert re.findall("<summary>(.*?)</summary>", page) == ["R@1", "R@3", "R@5", "N@3", "N@5", "MRR"]
    for name in ("cold: fewer than 10", "10 or more", "2 to 3", "up to 9"):
        assert f"<th>{name}</th>" in page
    # all 60 events by history: 20 in the first third, of which 10 have a slate
    assert page.count("<th>up to 9</th><td>10</td>") == page.count("<th>up to 9</th><td>20</td>") == 2 * 6


def test_the_p_values_are_corrected(page):
    # 18 tests against the incoming order, the smallest p of which is the oracle's 2 / 2^n
    assert "After Holm&#x27;s correction over the table: p &lt; .001 against the incoming order" in page


def test_what_was_wrong_with_answers_is_said_at_the_top(tmp_path):
    def unanswered(slate):
        return Ranking(slate_id=slate.slate_id, order=tuple(range(K)), status=AnswerStatus.UNANSWERED)

    out = make_run(tmp_path / "run", {"gr2_direct": unanswered})
    write_report(tmp_path / "run", out)
    text = out.read_text()
    sentence = "gr2 direct: 30 unanswered of 30 answers were no ranking; the incoming order counts in their place."
    assert text.index(sentence) < text.index("<h2>")
    assert '<small class="wrap">30 unanswered</small>' in text


def test_logged_slates_have_a_debiased_table_and_sentence(tmp_path):
    chances = {"propensities": [1.0, 0.5, 0.25, 0.05], "source": "estimated from 9 rows"}
    out = make_run(tmp_path / "run", {"gr2_direct": oracle}, chances)
    write_report(tmp_path / "run", out)
    text = out.read_text()
    assert re.findall("<h2>(.*?)</h2>", text)[:3] == ["When the target is in the slate", "End to end", "Debiased"]
    assert "places, estimated from 9 rows: 1.00 0.50 0.25 0.05. Tests" in text
    table = text[text.index("<h2>Debiased</h2>") : text.index("<h2>Slices</h2>")]
    # each target weighs 1, 2, 4 or, clipped, 10 by its place; the incoming order hits those of the first place
    weights = [(1, 2, 4, 10)[s.target] for s in SLATES]
    assert f"<b>{weights.count(1) / sum(weights):.3f}</b>" in table
    assert "30 slates of the first table" in table
    head = text[: text.index("<h2>")]
    assert "With each click weighted by how likely its place is looked at, it is 100.0%: " in head


def test_logged_slates_of_unknown_places_are_warned_of(tmp_path):
    out = make_run(tmp_path / "run", {"gr2_direct": oracle}, {"propensities": None, "source": "too few swaps"})
    write_report(tmp_path / "run", out)
    text = out.read_text()
    assert "since the chances of the places are not known: too few swaps." in text[: text.index("<h2>")]
    assert "Debiased" not in text


def test_an_evaluation_alone_makes_a_page(tmp_path):
    out = make_run(tmp_path / "whole", {"gr2_direct": echo})
    (tmp_path / "bare" / "13_evaluate").mkdir(parents=True)
    alone = tmp_path / "bare" / "13_evaluate" / "report.html"
    (alone.parent / "summary.json").write_bytes((out.parent / "summary.json").read_bytes())
    write_report(tmp_path / "bare", alone)
    assert re.findall("<h2>(.*?)</h2>", alone.read_text()) == [
        "When the target is in the slate",
        "End to end",
        "Slices",
        "Probes",
    ]


def test_the_page_is_the_same_twice(tmp_path):
    out = make_run(tmp_path / "run", {"gr2_thinking": oracle})
    write_report(tmp_path / "run", out)
    first = out.read_bytes()
    write_report(tmp_path / "run", out)
    assert out.read_bytes() == first


def scores(**r1):
    """Scores of rankers with these R@1, R@3 and N@3; p .20 against both references where it is above .3, else .01."""
    row = {
        name: dict.fromkeys(
            ("R@1", "R@3", "N@3", "N@5"),
            MetricValue(value=v, low=0, high=1, n=10, p_incoming=(p := 0.2 if v > 0.3 else 0.01), p_best_legacy=p),
        )
        for name, v in r1.items()
    }
    return Scores(n_slates=10, n_events=20, best_legacy="trees", table={"given_target": row})


def test_the_headline_says_when_it_wins_and_when_that_is_not_significant():
    won = scores(incoming=0.2, trees=0.25, gr2_sft=0.35, gr2_direct=0.3)
    assert served_mode(won) == "gr2_direct"
    assert headline(won) == (
        "gr2 direct puts the target first in 30.0% of 10 test slates: 50.0% above the incoming order (p = .010) "
        "and 20.0% above trees, the best legacy re-ranker (p = .010)."
    )
    assert "75.0% above the incoming order (p = .200, not significant)" in headline(
        scores(incoming=0.2, trees=0.25, gr2_direct=0.35)
    )


def test_the_report_says_how_often_the_model_overrules_the_advice():
    orders = [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)]
    advice = [Ranking(slate_id=str(n), order=order) for n, order in enumerate(orders)]
    served = [*advice[:2], Ranking(slate_id="2", order=(1, 2, 0)), Ranking(slate_id="3", order=(0, 1, 2))]
    assert "In 25.0% of the slates" in beside_advice(served, advice)  # another second place overrules nothing


def test_the_headline_says_when_it_loses():
    lost = scores(incoming=0.2, trees=0.1, gr2_direct=0.1)
    assert "50.0% below the incoming order (p = .010) and level with trees" in headline(lost)
    assert headline(scores(incoming=0.2, trees=0.1)) == "No GR2 ranker was evaluated."
    assert "0.100 against 0.000 of the incoming order" in headline(scores(incoming=0.0, trees=0.1, gr2_direct=0.1))


def test_p_text():
    assert [p_text(p) for p in (0.0004, 0.0312, 1.0)] == ["p < .001", "p = .031", "p = 1.000"]


def test_series_are_told_apart_by_phase_or_by_name():
    rows = [
        {"phase": "sft", "step": 20, "loss": 1.0},
        {"phase": "sft", "step": 10, "loss": 2.0},
        {"phase": "sft_valid", "step": 20, "r1_thinking": 0.2, "r1_direct": 0.1},
    ]
    assert series_of(rows, "loss") == {"sft": [(10, 2.0), (20, 1.0)]}
    assert series_of(rows, "r1") == {"thinking": [(20, 0.2)], "direct": [(20, 0.1)]}
    assert series_of(rows, "reward") == {}


def test_markdown_goes_between_the_markers():
    table = markdown(scores(incoming=0.2, trees=0.25, gr2_direct=0.3))
    assert table.splitlines()[2:] == [
        "| n = 10 | R@1 | R@3 | N@3 |",
        "| --- | ---: | ---: | ---: |",
        "| incoming" + 3 * " | 0.200<br>0.000-1.000<br>+0.0%, p = .010" + " |",
        "| **gr2 direct**" + 3 * " | 0.300<br>0.000-1.000<br>+50.0%, p = .010" + " |",
    ]
    assert fill(f"a {MARKER}old{MARKER} b", "new") == f"a {MARKER}\nnew\n{MARKER} b"
    with pytest.raises(UserError, match="stands 1 times"):
        fill(f"a {MARKER}", "new")


@pytest.mark.parametrize("shown", [True, False])
def test_advice_is_named_beside_the_model_that_is_shown_it(tmp_path, shown):
    out = make_run(tmp_path / "run", {"advice": oracle, "gr2_direct": anti})
    with stage_folder(tmp_path / "run" / "10_direct", {}, {}) as work:
        write_json(work.path / "gr2.json", {"advised": shown})
    write_report(tmp_path / "run", out)
    assert ("Beside the model stands advice" in out.read_text(encoding="utf-8")) == shown
