"""End-to-end SAEs on SmolLM2: the objectives differ in nothing else, and only what is archived is asked for."""

from dataclasses import asdict

import pytest

from mfrbook.chapters.end_to_end import measures
from mfrbook.chapters.end_to_end import runs as end_to_end
from mfrbook.chapters.end_to_end.sizes import smollm2
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.experiments.planned import plan
from mfrbook.store.runs import Run
from mfrlib.config import ConfigError


@pytest.mark.parametrize("objective", smollm2.SPARSITIES)
def test_objectives_differ_in_what_they_are_and_how_sparse_alone(objective):
    base, config = (asdict(smollm2.config_of(one, 3)) for one in ("local", objective))
    assert {name for name in base if base[name] != config[name]} <= {"objective", "sparsity", "n_saes"}
    assert (config["objective"], config["seed"], config["model"]) == (objective, 3, "smollm2")


def test_no_token_is_seen_twice():
    config = smollm2.config_of("e2e", 0)
    assert config.steps * config.batch_size == config.n_sequences
    assert config.steps * config.batch_size * (config.length - 1) >= 300_000


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="did you mean 'downstream'"):
        smollm2.config_of("downstraem", 0)


def test_a_notebook_asks_for_what_is_archived(monkeypatch, tmp_path):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "ARCHIVED_SEEDS", 2)
    asked = plan(["end-to-end-smollm2"], {"profile": "published"})
    assert [one.config for one in asked] == [
        smollm2.config_of(name, seed) for seed in (0, 1) for name in smollm2.SPARSITIES
    ]
    assert {end_to_end.data_id(one.config) for one in asked} == {smollm2.DATA_ID}
    assert plan(["end-to-end-smollm2"], {"profile": "quick"}) == []


def test_the_archive_holds_what_it_is_said_to_hold():
    assert len(smollm2.collect("published", trains=False)) == smollm2.ARCHIVED_SEEDS


def test_without_runs_a_claim_is_not_tested_and_says_why():
    evidence = Evidence("quick")
    with pytest.raises(Untested, match="in the published archive alone"):
        measures.MEASURES["real_e2e_ce"](evidence)


def stack(objective, l0, alive, ce):
    results = {"l0": l0, "alive": alive, "ce_increase": ce, "kl": ce, "explained_variance": [0.5] * 3, "later": {}}
    config = {"seed": 0, "sae": "relu", "objective": objective, "sparsity": [1.0, 2.0, 3.0]}
    return Run("end-to-end", config, "test", results)


def test_what_is_measured_is_the_gain_over_the_local_front():
    evidence = Evidence("published")
    front = stack("local", [64, 16, 4], [800, 400, 200], [0.1, 0.2, 0.4])
    evidence.runs["end-to-end-smollm2"] = [
        {
            "local": front,
            "e2e": stack("e2e", [32, 8, 2], [400, 200, 100], [0.1, 0.2, 0.4]),
            "downstream": stack("downstream", [64, 16, 4], [800, 400, 200], [0.05, 0.1, 0.2]),
        }
    ]
    assert measures.MEASURES["real_e2e_l0"](evidence) == pytest.approx([0.5])
    assert measures.MEASURES["real_e2e_alive"](evidence) == pytest.approx([0.5])
    assert measures.MEASURES["real_downstream_ce"](evidence) == pytest.approx([(0.05 + 0.1 + 0.2) / 3])
    assert measures.MEASURES["real_e2e_ce"](evidence)[0] > 0
