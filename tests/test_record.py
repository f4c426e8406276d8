import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest

import gr2
from gr2.errors import UserError
from gr2.record import (
    METRICS,
    RECORD,
    digest_folder,
    digest_json,
    is_complete,
    key_of,
    new_folder,
    read_json,
    read_metrics,
    reading,
    stage_folder,
    write_json,
)


def make(folder, config=None, inputs=None, text="x"):
    with stage_folder(folder, config or {}, inputs or {}) as work:
        (work.path / "out.txt").write_text(text)
    return read_json(folder / RECORD)


def test_a_stage_is_there_only_when_it_is_done(tmp_path):
    folder = tmp_path / "01_a"
    with stage_folder(folder, {"n": 1}, {}) as work:
        (work.path / "out.txt").write_text("x")
        work.counts["items"] = 3
        assert not is_complete(folder)
        assert not folder.exists()
    assert sorted(p.name for p in folder.iterdir()) == ["out.txt", RECORD]
    record = read_json(folder / RECORD)
    assert record["config"] == {"n": 1}
    assert record["counts"] == {"items": 3}
    assert record["digest"] == digest_folder(folder)
    assert record["resumed"] is False


def interrupt(folder, config):
    with suppress(KeyboardInterrupt), stage_folder(folder, config, {}) as work:
        (work.path / "checkpoint").write_text("step 5")
        raise KeyboardInterrupt


def test_the_code_is_told_by_its_modules(tmp_path):
    with stage_folder(tmp_path / "one", {}, {}):
        pass
    modules = sorted((Path(gr2.__file__).parent).rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()[:16]
    assert read_json(tmp_path / "one" / "record.json")["code"] == digest


def test_an_interrupted_stage_goes_on_with_the_same_config(tmp_path):
    folder = tmp_path / "01_a"
    interrupt(folder, {"n": 1})
    assert not folder.exists()
    with stage_folder(folder, {"n": 1}, {}) as work:
        assert work.resumed
        assert (work.path / "checkpoint").read_text() == "step 5"


def test_and_starts_afresh_with_another(tmp_path):
    folder = tmp_path / "01_a"
    interrupt(folder, {"n": 1})
    with stage_folder(folder, {"n": 2}, {}) as work:
        assert not work.resumed
        assert not (work.path / "checkpoint").exists()


def test_a_failed_second_try_keeps_the_first(tmp_path):
    folder = tmp_path / "01_a"
    make(folder, text="good")
    with pytest.raises(RuntimeError), stage_folder(folder, {"n": 2}, {}):
        raise RuntimeError
    assert (folder / "out.txt").read_text() == "good"


def test_the_key_holds_the_digests_of_the_inputs(tmp_path):
    digest = make(tmp_path / "01_a")["digest"]
    record = make(tmp_path / "02_b", {"t": (1, 2)}, {"01_a": tmp_path / "01_a"})
    assert record["inputs"] == {"01_a": digest}
    assert record["config"] == {"t": [1, 2]}
    assert key_of({"t": (1, 2)}, {"01_a": tmp_path / "01_a"}) == {"config": {"t": [1, 2]}, "inputs": {"01_a": digest}}


def test_an_incomplete_input_is_refused(tmp_path):
    (tmp_path / "01_a").mkdir()
    with pytest.raises(UserError, match="01_a: not complete; run the stage that writes it first"):
        key_of({}, {"01_a": tmp_path / "01_a"})


def test_the_digest_sees_names_and_bytes_but_no_record(tmp_path):
    first = make(tmp_path / "a")["digest"]
    assert make(tmp_path / "b")["digest"] == first
    assert make(tmp_path / "c", text="y")["digest"] != first
    (tmp_path / "b" / METRICS).write_text("{}")
    (tmp_path / "b" / RECORD).write_text("{}")
    assert digest_folder(tmp_path / "b") == first
    (tmp_path / "b" / "out.txt").rename(tmp_path / "b" / "other.txt")
    assert digest_folder(tmp_path / "b") != first


def test_json_digest_is_blind_to_the_order_of_keys():
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1}) != digest_json({"a": 2, "b": 1})


def test_metrics_of_a_resumed_stage_count_once(tmp_path):
    with stage_folder(tmp_path / "01_a", {}, {}) as work:
        for step, loss in ((1, 5.0), (2, 4.0), (2, 3.5)):
            work.metric(phase="sft", step=step, loss=loss)
        work.metric(phase="valid", step=2, loss=9.0)
    assert read_metrics(tmp_path / "01_a") == [
        {"phase": "sft", "step": 1, "loss": 5.0},
        {"phase": "sft", "step": 2, "loss": 3.5},
        {"phase": "valid", "step": 2, "loss": 9.0},
    ]
    assert read_metrics(tmp_path) == []


def test_json_that_is_missing_or_broken_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"x\.json: not there"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{\n"a": ')
    with pytest.raises(UserError, match=r"x\.json: unreadable \(Expecting value: line 2 .*; make it again"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("place", "mend"),
    [
        ("03_midtrain/model.safetensors", "make 03_midtrain again: `gr2 run` with `--redo 03_midtrain`"),
        ("11_bundle/sids/ids.parquet", "make 11_bundle again: `gr2 run` with `--redo 11_bundle`"),
        ("06_sft.partial/sft/model.safetensors", "delete {run}/06_sft.partial and run again"),
        ("elsewhere.parquet", "make it again, or bring it back from a copy"),
    ],
)
def test_a_spoilt_file_says_what_makes_it_again(tmp_path, place, mend):
    path = tmp_path / place
    with pytest.raises(UserError) as error, reading(path):
        raise Exception("bad\nheader")  # plain, as the tokenizers library raises it
    assert str(error.value) == f"{path}: unreadable (bad header); {mend.format(run=tmp_path)}"


def test_reading_changes_no_other_error(tmp_path):
    with pytest.raises(UserError, match="mine"), reading(tmp_path / "x"):
        raise UserError("mine")
    with pytest.raises(MemoryError), reading(tmp_path / "x"):
        raise MemoryError


def test_a_new_folder_is_whole_or_not_there(tmp_path):
    with suppress(KeyError), new_folder(tmp_path / "new") as aside:
        (aside / "half").touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "new") as aside:
        (aside / "whole").touch()
        assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "whole"]
    with pytest.raises(UserError, match="is there already; name another folder"), new_folder(tmp_path / "new"):
        pass


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        write_json(tmp_path / "x.json", circle)
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_a_line_that_a_crash_tore_is_left_out(tmp_path):
    (tmp_path / METRICS).write_text(
        '{"step": 1, "loss": 2}\n{"step": 2, "lo{"step": 2, "loss": 1}\n{"step": 3, "loss": 0}\n'
    )
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 3]


def test_others_may_read_what_a_stage_wrote(tmp_path):
    with stage_folder(tmp_path / "one", {}, {}) as work:
        (work.path / "secret").write_text("x")
        (work.path / "secret").chmod(0o600)
        (work.path / "plain").write_text("x")
    plain = (tmp_path / "one" / "plain").stat().st_mode
    assert (tmp_path / "one" / "secret").stat().st_mode == plain
