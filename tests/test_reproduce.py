"""Tables made again by small programs that write docs/results.json as the real commands do."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gr2 import cli
from gr2.errors import UserError
from gr2.reproduce import compare_again, stored, verdicts
from gr2.run import console


def row(name, ours, *, table="nano", command="python make.py", metric="R@1"):
    return {"table": table, "row": name, "metric": metric, "ours": ours, "low": 0.1, "high": 0.3, "command": command}


OLD = [row("same", 0.2), row("near", 0.2), row("far", 0.2), row("gone", 0.2), row("other", 0.2, table="beauty")]
NEW = [row("same", 0.1 + 0.1), row("near", 0.3), row("far", 0.31), row("new", 0.2)]


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """docs/ with OLD; `made` is what make.py puts in its place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 150)
    folder = Path("docs")
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(OLD))
    (folder / "results.md").write_text("old page")
    Path("make.py").write_text(
        "import pathlib, sys\nassert sys.version_info\n"
        "pathlib.Path('docs/results.md').write_text('new page')\n"
        "pathlib.Path('docs/results.json').write_text(pathlib.Path('made').read_text())\n"
    )
    return folder


def made(rows):
    Path("made").write_text(json.dumps(rows))


def test_verdicts():
    found = {(old or new)["row"]: verdict for old, new, verdict in verdicts(OLD[:4], NEW)}
    assert found == {"same": "equal", "near": "within interval", "far": "differs", "gone": "gone", "new": "new"}


def test_a_row_is_one_of_each_metric():
    old, new = [row("a", 0.2), row("a", 0.2, metric="R@3")], [row("a", 0.2, metric="R@3"), row("a", 0.5)]
    assert [verdict for _, _, verdict in verdicts(old, new)] == ["differs", "equal"]


def test_the_numbers_are_compared_and_the_files_put_back(docs, capsys):
    made(NEW)
    assert not compare_again(docs, "nano")
    out = capsys.readouterr().out
    assert "$ python make.py" in out
    assert "nano: 1 equal, 1 within interval, 1 differs, 1 gone, 1 new" in out
    assert stored(docs) == OLD
    assert (docs / "results.md").read_text() == "old page"


def test_a_command_that_writes_nothing_does_not_pass(docs, capsys):
    Path("make.py").write_text("")
    assert not compare_again(docs, "nano")
    assert "nano: 4 gone" in capsys.readouterr().out
    assert stored(docs) == OLD


@pytest.mark.parametrize(("rows", "code"), [(OLD, 0), (NEW[:2] + OLD[2:4], 0), (NEW, 1)])
def test_the_exit_code_says_whether_anything_differs(docs, monkeypatch, rows, code):
    made(rows)
    monkeypatch.setattr(sys, "argv", ["gr2", "reproduce", "nano"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == code


def test_alone_it_lists_the_tables(docs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gr2", "reproduce"])
    with pytest.raises(SystemExit):
        cli.main()
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["nano"] == ["4", "python", "make.py"]
    assert lines["beauty"] == ["1", "python", "make.py"]


def test_a_failing_command_is_one_line_and_changes_nothing(docs):
    with pytest.raises(UserError, match=r"`python make.py` failed \(exit code 1\)"):
        compare_again(docs, "nano")
    assert stored(docs) == OLD
    assert (docs / "results.md").read_text() == "old page"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_a_signal_it_puts_the_files_back(docs, number):
    Path("make.py").write_text("open('started', 'w').close()\nimport time\ntime.sleep(600)\n")
    heard = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # where nohup runs the tests it is ignored
    program = f"{heard}; import sys; from gr2 import cli; sys.argv = ['gr2', 'reproduce', 'nano']; cli.main()"
    asked = subprocess.Popen([sys.executable, "-c", program])
    while not Path("started").exists() and asked.poll() is None:
        time.sleep(0.1)
    assert stored(docs) == OLD[4:]
    asked.send_signal(number)
    assert asked.wait(timeout=60) == 128 + number
    assert stored(docs) == OLD
    assert (docs / "results.md").read_text() == "old page"


@pytest.mark.parametrize("command", ["cd x && python make.py", "python make.py > log", "echo $HOME", "a `b`"])
def test_a_command_for_a_shell_is_not_run(docs, command):
    (docs / "results.json").write_text(json.dumps([row("same", 0.2, command=command)]))
    with pytest.raises(UserError, match="needs a shell; run it yourself"):
        compare_again(docs, "nano")


def test_a_missing_run_is_named_and_made_when_asked(docs, monkeypatch, capsys):
    """`gr2` is a program here that completes the run it is asked for."""
    for name in ("shop", "shop-x"):
        Path("configs").mkdir(exist_ok=True)
        Path("configs", f"{name}.toml").touch()
    complete = Path("runs/shop/13_evaluate/record.json")
    complete.parent.mkdir(parents=True)
    complete.write_text("{}")
    command = "python make.py runs/shop runs/shop-2 runs/shop-x-1 --seeds 0 1 2"
    (docs / "results.json").write_text(json.dumps([row("same", 0.2, command=command)]))
    made([row("same", 0.2, command=command)])
    how = "gr2 run configs/shop.toml --seed 2; gr2 run configs/shop-x.toml --seed 1"
    with pytest.raises(UserError, match=f"`gr2 reproduce nano --runs` makes them, with: {how}"):
        compare_again(docs, "nano")
    asked = []
    monkeypatch.setattr("gr2.reproduce._run", lambda words: asked.append(" ".join(words)))
    compare_again(docs, "nano", make_runs=True)
    assert asked == [*how.split("; "), command]
    (docs / "results.json").write_text(json.dumps([row("same", 0.2, command="python make.py runs/other-1")]))
    with pytest.raises(UserError, match=r"runs/other-1: no such run, and no configs/other-1.toml to make it"):
        compare_again(docs, "nano", make_runs=True)


def test_what_is_not_there(docs):
    with pytest.raises(UserError, match="no table 'nanno'; did you mean 'nano'"):
        compare_again(docs, "nanno")
    (docs / "results.json").write_text(json.dumps([row("same", 0.2, command="no-such-program")]))
    with pytest.raises(UserError, match="no-such-program: no such program here"):
        compare_again(docs, "nano")
    (docs / "results.json").unlink()
    with pytest.raises(UserError, match=r"results.json: not there"):
        compare_again(docs, "nano")
