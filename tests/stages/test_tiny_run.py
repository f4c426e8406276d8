"""One whole run of the made-up shop through the command line: started, killed, gone on with, refused."""

import json
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import shop
from safetensors.torch import load_file

from gr2 import cli
from gr2.artifacts import Rankings, Scores, SemanticIds, Slates
from gr2.compress.context import Compressor, key
from gr2.distill import students
from gr2.errors import UserError
from gr2.evaluate.probes import TRUTHS
from gr2.evaluate.retest import retest
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.nano import NanoConfig
from gr2.lm.train import FitConfig
from gr2.record import RECORD, digest_folder, read_json
from gr2.rl.rollouts import read_rollouts
from gr2.run import STAGES, folder_of
from gr2.serve.ranker import Bundle
from gr2.stages import s08_rl
from gr2.types import AnswerStatus, Split

STAGE_FOLDERS = tuple(folder_of(stage) for stage in STAGES)
TUNED = {name + end for name in ("lambdamart", "dcn", "prm") for end in ("", "_practised")}
RANKERS = TUNED | {
    "incoming",
    "popularity",
    "covisitation",
    "neighbours",
    "advice",
    "sasrec",
    "stack",
    "teacher",
    "midtrained_likelihood",
    "midtrained_category_thought",
    "gr2_sft_thinking",
    "gr2_sft_direct",
    "gr2_opd_thinking",
    "gr2_rl_thinking",
    "gr2_thinking",
    "gr2_direct",
}
USERS = len(shop.walks())
TINY = """
[corpus]
reader = "generic"
items = "items.jsonl"
events = "events.jsonl"
n_test = 2
n_valid = 2

[sids]
codebook_sizes = [6, 6]
text_dims = 8
engagement_dims = 4

[midtrain]
base = false
history = 8
k = 4
nano = { width = 32, layers = 2, head_width = 16, feed = 64, words = 300, context = 256 }
histories = 32
fit = { steps = 20, batch_size = 4, learning_rate = 5e-3 }

[slates]
k = 4
practice = 8
folds = 2
min_history = 2
history_cap = 6
sasrec = { dim = 16, layers = 1, epochs = 2 }

[traces]
folds = 2
cited_history = 8

[sft]
valid_slates = 8
fit = { steps = 10, batch_size = 4, learning_rate = 5e-3 }

[opd]
teacher = "itself"
rollouts = 2
thought_tokens = 6
valid_slates = 4
fit = { steps = 2, batch_size = 2, learning_rate = 5e-3 }

[rl]
steps = 2
prompts = 2
rollouts = 2
max_rounds = 2
thought_tokens = 8
truth = 0.5

[direct]
features = true
rollouts = 4
valid_slates = 8
fit = { steps = 10, batch_size = 4, learning_rate = 5e-3 }

[compress]
newest = 8
share = 0.5
at_least = 2
valid_slates = 4
fit = { steps = 2, batch_size = 4, learning_rate = 1e-2 }

[evaluate]
free_answers = 8
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The finished run and how it came about."""

    folder: Path
    killed_code: int
    killed_records: dict[str, str]
    """When it was killed: the record of each complete stage."""
    killed_folders: set[str]
    code: int
    records: dict[str, str]


def typed(*words) -> int:
    """Type a command in the current folder; gives the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gr2", *map(str, words)])
        try:
            cli.main()
        except SystemExit as end:
            return end.code or 0
    return 0


def records(run: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in run.glob(f"*/{RECORD}")}


def folders(run: Path) -> set[str]:
    return {path.name for path in run.iterdir() if path.is_dir()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Run:
    """The run is killed while stage 8 works, and started again."""
    home = tmp_path_factory.mktemp("home")
    run = home / "runs" / "tiny"
    shop.write(home)
    (home / "tiny.toml").write_text(TINY)

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        with pytest.MonkeyPatch.context() as stage_8:
            stage_8.setattr(s08_rl, "rl", killed)
            killed_code = typed("run", "tiny.toml")
        killed_records, killed_folders = records(run), folders(run)
        code = typed("run", "tiny.toml")
    return Run(
        folder=run,
        killed_code=killed_code,
        killed_records=killed_records,
        killed_folders=killed_folders,
        code=code,
        records=records(run),
    )


@pytest.fixture
def home(tiny, monkeypatch) -> Path:
    monkeypatch.chdir(tiny.folder.parents[1])
    return tiny.folder.parents[1]


@pytest.fixture
def copy(tiny, home, tmp_path) -> Path:
    """A copy of the run that may be spoilt."""
    return shutil.copytree(tiny.folder, tmp_path / "tiny")


def other_ids(ids: SemanticIds) -> SemanticIds:
    """The same catalogue, each item with its neighbour's id."""
    return replace(ids, codes=np.roll(ids.codes, 1, axis=0))


def test_every_stage_is_complete_and_says_how_it_was_made(tiny):
    assert tiny.code == 0
    assert folders(tiny.folder) == set(STAGE_FOLDERS) == tiny.records.keys()
    for name in STAGE_FOLDERS:
        record = json.loads(tiny.records[name])
        assert record["digest"] == digest_folder(tiny.folder / name)
        assert record["inputs"] == {read: json.loads(tiny.records[read])["digest"] for read in record["inputs"]}
        assert record["config"]["seed"] == 0
        assert record["seconds"] >= 0
        assert record["peak_memory_gb"] > 0


def test_the_corpus_is_the_shop(tiny):
    counts = json.loads(tiny.records["01_corpus"])["counts"]
    assert (counts["items"], counts["users"]) == (6 * 4, USERS)
    assert (counts["train_events"], counts["valid_events"], counts["test_events"]) == (8 * USERS, 2 * USERS, 2 * USERS)


def test_every_id_is_unique(tiny):
    report = read_json(tiny.folder / "02_sids" / "report.json")
    assert (report["n_items"], report["unique_share"]) == (24, 1.0)
    assert len(SemanticIds.load(tiny.folder / "02_sids").item_of) == 24


def test_the_summary_compares_every_ranker_by_both_protocols(tiny):
    scores = Scores.load(tiny.folder / "13_evaluate")
    assert scores.n_slates == len(Slates.load(tiny.folder / "04_slates").split(Split.TEST)) > 0
    assert scores.n_events == 2 * USERS
    assert scores.best_legacy in RANKERS - {"incoming"}
    assert not scores.best_legacy.startswith(("gr2", "midtrained"))
    assert read_json(tiny.folder / "12_legacy" / "tuning.json").keys() == TUNED
    voices = {"advice", "votes", "pre-ranker", "sasrec", "anyone"}
    assert read_json(tiny.folder / "13_evaluate" / "stack.json").keys() == voices | TUNED
    assert scores.probes.keys() == RANKERS
    for protocol, n in (("given_target", scores.n_slates), ("end_to_end", scores.n_events)):
        assert scores.table[protocol].keys() == RANKERS
        for ranker, metrics in scores.table[protocol].items():
            for value in metrics.values():
                assert value.n == n
                assert 0 <= value.low <= value.value <= value.high <= 1
                assert (value.p_incoming is None) == (ranker == "incoming")
                assert (value.p_best_legacy is None) == (ranker == scores.best_legacy)
                assert all(0 <= p <= 1 for p in (value.p_incoming, value.p_best_legacy) if p is not None)


def test_the_truth_of_thoughts_is_told_of_those_who_think(tiny, tmp_path):
    """What the teacher says of a candidate is true by definition, and what it says of taste nearly: it saw six events,
    and thoughts are checked by the eight that the direct stage reads. Measured again, nothing of it is lost."""
    probes = Scores.load(tiny.folder / "13_evaluate").probes
    thinking = {name for name in RANKERS if name.endswith("_thinking")}
    assert {name for name, row in probes.items() if TRUTHS.keys() <= row.keys()} == thinking | {"teacher"}
    assert probes["teacher"]["truth_next"].value == 1
    assert 0.85 < probes["teacher"]["truth_likes"].value < 1
    rows = read_rollouts(tiny.folder / "08_rl" / s08_rl.ROLLOUTS)
    assert all(row.truth is not None and 0 <= row.truth <= 1 for row in rows)
    assert retest(tiny.folder, tmp_path, {}).probes == probes


def test_every_ranking_is_a_valid_permutation(tiny):
    slates = Slates.load(tiny.folder / "04_slates").split(Split.TEST)
    for name in RANKERS:
        rankings = Rankings.load(tiny.folder / "13_evaluate" / name).rankings
        assert [r.slate_id for r in rankings] == [s.slate_id for s in slates]
        assert all(sorted(r.order) == [0, 1, 2, 3] for r in rankings)
        assert {r.status for r in rankings} == {AnswerStatus.VALID}


def test_free_answers_are_counted_by_status(tiny):
    for counted in read_json(tiny.folder / "13_evaluate" / "free_answers.json").values():
        assert counted["n"] == sum(counted["statuses"].values()) == 8
        assert counted["valid_share"] == counted["statuses"].get("valid", 0) / 8


def test_the_report_needs_nothing_from_elsewhere(tiny):
    page = (tiny.folder / "13_evaluate" / "report.html").read_text(encoding="utf-8")
    loaded = re.findall(r"""(?:\bsrc|\bhref|url\()\s*=?\s*["']?([^"'\s>)]+)""", page)
    assert [source[:60] for source in loaded if not source.startswith(("data:", "#"))] == []
    assert "<link" not in page
    assert "@import" not in page
    assert all(ranker.replace("_", " ") in page for ranker in RANKERS)


def test_rl_goes_on_from_what_was_distilled(tiny):
    """Two steps of RL at a rate of 1e-4 go less far than the two steps of distillation before them."""
    sft, opd, rl = (load_file(tiny.folder / name / "model.safetensors") for name in ("06_sft", "07_opd", "08_rl"))
    assert sum(float((rl[k] - opd[k]).norm()) for k in rl) < 0.5 * sum(float((rl[k] - sft[k]).norm()) for k in rl)


def test_who_is_told_no_gaps_hears_sasrecs_that_are_trained_for_candidates(tiny):
    about = read_json(tiny.folder / "11_bundle" / "advisor.json")["sequence"]
    assert (about["dim"], about["epochs"], about["dropout"]) == (16, 20, 0.2)  # its shape, not its training


def test_what_is_served_hears_who_learned_from_practice_slates(tiny):
    folder = tiny.folder
    advisor = read_json(folder / "11_bundle" / "advisor.json")
    assert set(advisor["practised"]) == {"prm-0", "prm-1", "din-0", "din-1"}
    assert len(advisor["heard"]) == 4
    before, after = (Slates.load(folder / name).slates for name in ("05_traces", "10_direct"))
    heard = [a.advice != b.advice for a, b in zip(before, after, strict=True) if a.split is not Split.TRAIN]
    assert heard
    assert all(heard)
    assert all(a.advice == b.advice for a, b in zip(before, after, strict=True) if a.split is Split.TRAIN)


def test_a_killed_run_goes_on_at_the_stage_it_was_in(tiny):
    assert tiny.killed_code == 130
    done = {name for name in STAGE_FOLDERS if name < "08"}
    assert tiny.killed_records.keys() == done
    assert tiny.killed_folders == done | {"08_rl.partial"}
    assert {name: tiny.records[name] for name in done} == tiny.killed_records
    assert json.loads(tiny.records["08_rl"])["resumed"] is True
    assert json.loads(tiny.records["10_direct"])["resumed"] is False


def test_a_second_run_makes_nothing_again(tiny, home, capsys):
    assert typed("run", "tiny.toml") == 0
    assert capsys.readouterr().out.count("complete, skipped") == len(STAGE_FOLDERS)
    assert records(tiny.folder) == tiny.records


def test_another_config_is_refused_in_one_line(tiny, home, capsys):
    (home / "other.toml").write_text(TINY.replace("thought_tokens = 8", "thought_tokens = 9"))
    assert typed("run", "other.toml", "--run", "runs/tiny") == 2
    error = capsys.readouterr().err
    assert "08_rl: made with another config or inputs (thought_tokens: 8 -> 9)" in error
    assert error.count("\n") == 1
    assert records(tiny.folder) == tiny.records


def test_a_checkpoint_of_other_ids_is_refused_in_one_line(copy, capsys):
    other_ids(SemanticIds.load(copy / "02_sids")).save(copy / "02_sids")
    shutil.rmtree(copy / "13_evaluate")
    assert typed("evaluate", "--run", copy) == 2
    error = capsys.readouterr().err
    assert "03_midtrain: trained with other semantic ids" in error
    assert error.count("\n") == 1
    assert not (copy / "13_evaluate").exists()


def test_what_is_served_shows_short_contexts(tiny):
    """Slates hold six events; the compressor reads eight, in training, evaluation and serving alike."""
    bundle, trained = Bundle.load(tiny.folder / "11_bundle"), Slates.load(tiny.folder / "10_direct").split(Split.TRAIN)
    assert max(len(s.history) for s in Slates.load(tiny.folder / "04_slates").slates) == 6
    assert max(len(s.history) for s in trained) > 6
    compressor = bundle.model.compressor
    assert compressor
    assert Compressor.load(tiny.folder / "10_direct", bundle.corpus, bundle.ids).cache == compressor.cache
    slate = max(trained, key=lambda s: len(s.history))
    assert key(slate.history[-8:]) in compressor.cache  # since the direct ranker was trained on it
    shown = bundle.model.renderer.shown(slate)
    assert shown == compressor.compress(slate.history)
    assert len(shown) == 3  # under half of eight
    assert Checkpoint.load(tiny.folder / "08_rl", bundle.corpus, bundle.ids).renderer.shown(slate) == slate.history[-8:]


def test_smaller_models_are_made_once_and_read_what_the_direct_model_reads(tiny, home, tmp_path, monkeypatch):
    few = FitConfig(steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=1)
    shape = NanoConfig(width=16, layers=1, head_width=16, feed=32, words=300, context=256)
    for name, value in (("SHAPES", {"4": shape}), ("SMALL", few), ("PRUNED", few)):
        monkeypatch.setattr(students, name, value)
    run = students.Run(run=tiny.folder, out=tmp_path / "distilled")
    made = students.make_students(run)
    assert list(made) == ["pruned-1", "small-4", "opd-4"]
    pruned, small, opd = (run.checkpoint(folder) for folder in made.values())
    assert len(pruned.model.model.layers) == 1
    assert small.model.num_parameters() < run.direct.model.num_parameters()
    slate = max(run.slates.split(Split.TEST), key=lambda s: len(s.history))
    for student in (pruned, small, opd):
        assert student.voices == run.direct.voices
        assert student.renderer.shown(slate) == run.direct.renderer.shown(slate)
        assert len(student.renderer.shown(slate)) == 3
    again = {folder: (folder / RECORD).stat().st_mtime_ns for folder in made.values()}
    assert students.make_students(run) == made
    assert again == {folder: (folder / RECORD).stat().st_mtime_ns for folder in made.values()}
    with pytest.raises(UserError, match=r"starts from gr2's own base, and so do its students; leave --student out"):
        students.make_students(run, ["qwen3"])
    monkeypatch.setattr(students, "PRUNED", few.model_copy(update={"steps": 3}))
    with pytest.raises(UserError, match="pruned-1: made with another config or inputs"):
        students.make_students(run)


def test_rank_asks_the_bundle(tiny, home, capsys):
    user = Slates.load(tiny.folder / "04_slates").split(Split.TEST)[0].user_id
    for words in ([], ["--think"]):
        assert typed("rank", "--user", user, "--run", "runs/tiny", *words) == 0
        out = capsys.readouterr().out
        assert f"user {user}, slate {user}:" in out
        assert "not valid" not in out


def test_an_ablation_makes_what_its_component_touches_and_is_reproduced(tiny, home, capfd):
    (home / "ablate.toml").write_text(
        'base = "tiny.toml"\n[ablate]\nseeds = [0]\n[ablate.opinion.direct]\nbeta = 0.0\n'
    )
    (home / "docs").mkdir()
    assert typed("ablate", "ablate.toml", "--table", "ablation") == 0
    assert "report: runs/tiny-ablate/ablation.html" in capfd.readouterr().out
    ablated = home / "runs" / "tiny-ablate" / "opinion-0"
    made = {name for name in STAGE_FOLDERS if not (ablated / name / RECORD).samefile(tiny.folder / name / RECORD)}
    assert made == {"10_direct", "11_bundle", "13_evaluate"}
    rows = {(row["row"], row["metric"], row["table"]): row for row in read_json(home / "docs" / "results.json")}
    rl = rows["gr2_rl_thinking without opinion", "R@1", "ablation"]
    assert (rl["ours"], rl["p"]) == (0, 1)  # it is the same model
    scores = [Scores.load(run / "13_evaluate").table["end_to_end"]["gr2_direct"] for run in (ablated, tiny.folder)]
    direct = rows["gr2_direct without opinion", "MRR", "ablation-end-to-end"]
    assert direct["ours"] == pytest.approx(scores[0]["MRR"].value - scores[1]["MRR"].value)
    assert typed("reproduce", "ablation") == 0
    said = capfd.readouterr().out
    assert "opinion, seed 0 (run 1 of 1): complete, skipped" in said
    assert f"ablation: {len(rows) // 2} equal" in said
