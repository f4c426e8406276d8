"""The configs that are shipped: each loads, and every component of an ablation can be removed."""

from pathlib import Path

import pytest

from gr2.ablate import load_plan
from gr2.errors import UserError
from gr2.run import folder_of, load_config

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))
ABLATIONS = [path for path in CONFIGS if "[ablate" in path.read_text()]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_loads(path):
    assert load_config(path).name


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        *(
            ("slates.sasrec", f"{name} = 0", "greater than or equal to 1")
            for name in ("dim", "layers", "heads", "epochs", "batch_size")
        ),
        ("slates.sasrec", "max_length = 1", "greater than or equal to 2"),
        ("slates.sasrec", "heads = 3", "heads = 3 must divide dim = 64"),
        ("slates.sasrec", "dropout = 1.0", "less than 1"),
        ("slates.sasrec", "learning_rate = 0.0", "greater than 0"),
        ("midtrain.mix", "caption = -0.07", "greater than or equal to 0"),
        ("midtrain.mix", "caption = 0.08", "the shares sum to 1.030, not 1"),
        ("midtrain.nano", "head_width = 48", "head_width = 48 must divide width = 128"),
        ("midtrain.nano", "head_width = 1", "greater than or equal to 1|multiple of 2"),
        ("midtrain.nano", "layers = 0", "greater than or equal to 1"),
        ("midtrain.nano", "words = 100", "greater than or equal to 256"),
        ("midtrain", "history = 0", "greater than or equal to 1"),
        ("sft", "lambda_answer = 0", "greater than 0"),
        ("opd", "thought_tokens = 0", "greater than or equal to 1"),
        ("rl", "temperature = 0", "greater than 0"),
        ("rl", "valid_slates = -1", "greater than or equal to 0"),
        ("direct", "rollouts = 1", "greater than or equal to 2"),
        ("direct", "beta = -1.0", "greater than or equal to 0"),
        ("direct", "thinking_share = 0.01", "thinking_share = 0.01 of fit.batch_size = "),
        ("bundle", "popular = -1", "greater than or equal to 0"),
        ("evaluate", "free_answers = 0", "greater than or equal to 1"),
    ],
)
def test_a_setting_that_means_nothing_is_one_line(tmp_path, table, line, words):
    (tmp_path / "nano.toml").write_text((CONFIGS[0].parent / "nano.toml").read_text())
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "nano.toml"\n[{table}]\n{line}\n')
    with pytest.raises(UserError, match=words) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: [{table}]")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.name)
def test_an_ablation_loads_and_keeps_slates_and_evaluation(path):
    plan = load_plan(path)
    assert len(plan.seeds) >= 2
    for component, without in plan.without.items():
        redone = {folder_of(stage) for stage in plan.redone(component)}
        assert redone >= {"11_bundle", "13_evaluate"}
        assert redone.isdisjoint({"01_corpus", "04_slates"})
        assert sum(without.tables["midtrain"].mix.model_dump().values()) == pytest.approx(1)


def test_the_full_run_of_the_ablation_is_the_demo():
    configs = {path.name: path for path in CONFIGS}
    assert load_plan(configs["nano-ablate.toml"]).full == load_config(configs["nano.toml"])
