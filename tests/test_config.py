import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, model_validator

from gr2.config import RunConfig, nearest, read_config, write_config
from gr2.errors import UserError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    epochs: int = 3
    """Passes over the data.
    At least one."""


class Shop(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    size: int = 10
    """How many."""
    rate: float = 1e-5
    names: tuple[str, ...] = ("a",)
    folder: Path = Path("cache")
    weights: dict[str, float] = {}
    nothing: int | None = None
    inner: Inner = Inner()
    """The inner one."""

    @model_validator(mode="after")
    def _not_thirteen(self):
        if self.size == 13:
            raise ValueError("13 is unlucky")
        return self


class Needy(BaseModel):
    must: int


KINDS = {"shop": Shop}


def read(tmp_path, text, kinds=KINDS):
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path, kinds)


def test_defaults_fill_what_is_left_out(tmp_path):
    config = read(tmp_path, "[shop.inner]\nepochs = 5\n")
    assert config == RunConfig(name="my", seed=0, tables={"shop": Shop(inner=Inner(epochs=5))})


def test_head(tmp_path):
    config = read(tmp_path, '[run]\nname = "x-1"\nseed = 7\n')
    assert (config.name, config.seed) == ("x-1", 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[shpo]\nsize = 1", "unknown table [shpo]; did you mean 'shop'?"),
        ("[shop]\nsizes = 1", "[shop] unknown key 'sizes'; did you mean 'size'?"),
        ("[shop]\nqqq = 1", "[shop] unknown key 'qqq'; there are: size, rate, names"),
        ("[shop.inner]\nepoch = 1", "[shop.inner] unknown key 'epoch'; did you mean 'epochs'?"),
        ('[shop]\nsize = "ten"', '[shop] size = "ten": Input should be a valid integer'),
        ("[shop]\nsize = 13", "[shop] 13 is unlucky"),
        ("[shop]\ninner = 1", "[shop] inner = 1: Input should be a valid dictionary"),
        ("size = 1", "'size' stands outside of a table"),
        ('[run]\nname = "../up"', '[run] name = "../up"'),
        ("[run]\nseed = -1", "[run] seed = -1"),
        ("[run]\nseed = 4294967296", "[run] seed = 4294967296: Input should be less than 4294967296"),
        ("[shop]\nrate = inf", "inf: no setting takes it; give a finite number"),
        ("[shop]\nrate = -nan", "nan: no setting takes it; give a finite number"),
        ("[shop]\nrate = 1e999", "1e999: no setting takes it; give a finite number"),
        ("[shop\nsize = 1", "not a TOML file: Expected ']'"),
        ("[shop]\nsize = 1\nsize = 2", "not a TOML file: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "my.toml"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key(tmp_path):
    with pytest.raises(UserError, match=r"\[needy\] key 'must' is missing; add it"):
        read(tmp_path, "", {"needy": Needy})


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "nano.toml").touch()
    with pytest.raises(UserError, match=r"nanno\.toml: not there; that folder has nano\.toml"):
        read_config(tmp_path / "nanno.toml", KINDS)
    with pytest.raises(UserError, match="not a TOML file"):
        read_config(tmp_path, KINDS)


def test_written_file_explains_each_key(tmp_path):
    write_config(tmp_path / "out.toml", RunConfig(name="n", seed=3, tables={"shop": Shop()}))
    text = (tmp_path / "out.toml").read_text()
    assert "# How many.\nsize = 10\n" in text
    assert "[shop.inner]\n# Passes over the data.\n# At least one.\nepochs = 3\n" in text
    assert "nothing" not in text


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.floats(0, 1), max_size=3),
)
def test_what_is_written_is_read_again(tmp_path_factory, name, rate, weights):
    path = tmp_path_factory.mktemp("toml") / "out.toml"
    config = RunConfig(name="n", seed=3, tables={"shop": Shop(names=(name, "b"), rate=rate, weights=weights, size=4)})
    write_config(path, config)
    assert read_config(path, KINDS) == config


def test_nearest():
    assert nearest("trace", ["traces", "sft"]) == "did you mean 'traces'?"
    assert nearest("zzz", ["traces", "sft"]) == "there are: traces, sft"
    assert nearest("zzz", []) == "there are: none"


def test_a_base_lies_below(tmp_path):
    (tmp_path / "low.toml").write_text(
        '[run]\nseed = 3\n[shop]\nsize = 4\nnames = ["x", "y"]\n[shop.inner]\nepochs = 9\n'
    )
    config = read(tmp_path, 'base = "low.toml"\n[shop]\nsize = 5\n[shop.weights]\na = 0.5\n')
    shop = Shop(size=5, names=("x", "y"), inner=Inner(epochs=9), weights={"a": 0.5})
    assert config == RunConfig(name="low", seed=3, tables={"shop": shop})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base = 3", "base = 3: not a file name"),
        ('base = "lo.toml"', "lo.toml: not there; that folder has low.toml, my.toml"),
        ('base = "my.toml"', "its base my.toml has a base of its own"),
        ('base = "low.toml"\n[shop]\nsizes = 1', "[shop] unknown key 'sizes'"),
    ],
)
def test_a_bad_base(tmp_path, text, words):
    (tmp_path / "low.toml").write_text("")
    with pytest.raises(UserError, match=re.escape(words)):
        read(tmp_path, text)


def test_another_seed_is_another_name():
    config = RunConfig(name="n", seed=2, tables={})
    assert config.of_seed(2) is config
    assert config.of_seed(0) == RunConfig(name="n-0", seed=0, tables={})
