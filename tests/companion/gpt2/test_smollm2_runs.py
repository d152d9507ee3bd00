"""SmolLM2's runs: at the paper's size, each control changes one thing, and only what is archived is asked for."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.chapters.gpt2.smollm2 import figures
from mfrbook.chapters.gpt2.smollm2 import runs as smollm2
from mfrbook.experiments.planned import plan
from mfrlib import mutual_feature_penalty
from mfrlib.config import ConfigError


def test_the_baseline_is_the_paper_s_size():
    config, paper = smollm2.config_of("baseline", 3), gpt2.GPT2Config()
    names = (
        "steps",
        "batch_size",
        "n_saes",
        "n_features",
        "k",
        "warmup",
        "learning_rate",
        "hook",
        "length",
        "n_sequences",
    )
    assert {name: getattr(config, name) for name in names} == {name: getattr(paper, name) for name in names}
    assert (config.seed, config.alpha, config.model, config.text) == (3, 0.0, "smollm2", "web-articles")
    assert config.n_inserted >= 250


@pytest.mark.parametrize("name", smollm2.ROWS)
def test_every_control_differs_in_what_it_says_and_in_nothing_else(name):
    base, config = (asdict(smollm2.config_of(one, 0)) for one in ("baseline", name))
    assert {field for field in base if base[field] != config[field]} == set(smollm2.ROWS[name])


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="did you mean 'warm start'"):
        smollm2.config_of("warm strat", 0)


def test_a_notebook_asks_for_what_is_archived(monkeypatch, tmp_path):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "ARCHIVED_SEEDS", {"baseline": 2, "warm start": 1})
    asked = [one.config for one in plan(["gpt2-smollm2"], {"profile": "published"})]
    assert asked == [smollm2.config_of(*one) for one in (("baseline", 0), ("warm start", 0), ("baseline", 1))]
    assert plan(["gpt2-smollm2"], {"profile": "quick"}) == []


def test_its_runs_go_by_the_archive_s_names_of_model_and_text(monkeypatch, tmp_path):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path))
    assert gpt2.data_id(smollm2.config_of("baseline", 0)) == smollm2.DATA_ID


def test_the_archive_holds_what_it_is_said_to_hold():
    seeds = smollm2.collect("published", trains=False)
    held = {name: [seed for seed, runs in enumerate(seeds) if name in runs] for name in smollm2.ARCHIVED_SEEDS}
    assert held == {name: [*range(count)] for name, count in smollm2.ARCHIVED_SEEDS.items()}


def test_with_the_order_of_the_saes_turned_round_the_maximum_is_taken_from_the_other_side():
    weight = torch.randn(5, 40, 16, generator=torch.Generator().manual_seed(0))
    turned = mutual_feature_penalty(weight.flip(0))
    torch.testing.assert_close(turned, mutual_feature_penalty(weight, direction="reversed"))
    assert abs(turned - mutual_feature_penalty(weight)) > 1e-3
    assert smollm2.config_of("reverse maximum", 0).k == smollm2.config_of("penalty", 0).k[::-1]


def test_each_form_is_held_against_the_baseline_at_its_own_k():
    seeds = smollm2.collect("published", trains=False)
    drawn = figures.forms(seeds).data.set_index(["run", "k"])["change, %"]
    for form in figures.FORMS:
        pairs = [(one[form], one["baseline"]) for one in seeds if form in one]
        for k in gpt2.PAPER_K:
            losses = [[run.results["loss"][run.config["k"].index(k)] for run in both] for both in pairs]
            assert drawn[form, k] == pytest.approx(np.mean([100 * (after / before - 1) for after, before in losses]))
