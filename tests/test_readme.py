"""README and pages against the project: their commands, the tree, their links."""

import re
import tomllib
from pathlib import Path

import pytest

from gr2.evaluate.markdown import MARKER
from gr2.run import STAGES, table_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {
    "new",
    "refresh",
    "run",
    "ablate",
    "reproduce",
    "follow",
    "rollouts",
    "rank",
    "serve",
    *map(table_of, STAGES),
}


def code_lines(text):
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def tree():
    """The paths of docs/tree.md: an entry two spaces deeper lies in the folder above it."""
    _, block, _ = (ROOT / "docs" / "tree.md").read_text(encoding="utf-8").split("<!-- tree -->")
    folders, paths = {}, []
    for line in block.strip("\n").splitlines():
        depth = (len(line) - len(line.lstrip()) - 4) // 2
        for name in re.split(r"\s{2,}", line.strip())[0].split(", "):
            path = "".join(folders[d] for d in range(depth)) + name
            paths.append(path)
            if name.endswith("/"):
                folders[depth] = name
    return paths


def test_every_path_of_the_tree_is_there():
    missing = [path for path in tree() if not (ROOT / path).exists()]
    assert missing == []


def test_every_module_is_in_the_tree():
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "gr2").rglob("*.py") if p.name != "__init__.py"}
    assert sorted(modules - set(tree())) == []


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in code_lines(README) if line.startswith("make ")}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_configs_exist(page):
    for line in code_lines(page.read_text(encoding="utf-8")):
        if line.startswith("gr2 ") and not line[4:].lstrip().startswith("#"):
            assert line.split()[1] in COMMANDS
        for config in re.findall(r"configs/\S+\.toml", line):
            assert (ROOT / config).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_table_has_its_place():
    assert README.count(MARKER) == 2


def test_ci_runs_exactly_the_two_targets():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make test", "make check"]


def test_torch_is_pinned_for_pip():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"torch=={pins['torch']}" in wanted
    assert "-c constraints.txt" in (ROOT / "Makefile").read_text()
