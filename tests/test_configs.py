"""The configs that are shipped: each loads, and every component of an ablation can be removed."""

from pathlib import Path

import pytest

from gr2.ablate import load_plan
from gr2.run import folder_of, load_config

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))
ABLATIONS = [path for path in CONFIGS if "[ablate" in path.read_text()]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_loads(path):
    assert load_config(path).name


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.name)
def test_an_ablation_loads_and_keeps_slates_and_evaluation(path):
    plan = load_plan(path)
    assert len(plan.seeds) == 3
    for component, without in plan.without.items():
        redone = {folder_of(stage) for stage in plan.redone(component)}
        assert redone >= {"11_bundle", "12_evaluate"}
        assert redone.isdisjoint({"01_corpus", "04_slates"})
        assert sum(without.tables["midtrain"].mix.model_dump().values()) == pytest.approx(1)


def test_the_full_run_of_the_ablation_is_the_demo():
    configs = {path.name: path for path in CONFIGS}
    assert load_plan(configs["nano-ablate.toml"]).full == load_config(configs["nano.toml"])
