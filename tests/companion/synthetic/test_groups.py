import itertools

import numpy as np
import pytest
import torch

from mfrbook.chapters.synthetic.questions import groups
from mfrbook.chapters.synthetic.questions.groups import agreement
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.method.similarity import mmcs


def test_equal_groups_agree_fully_and_random_ones_at_chance(draws):
    group, features = torch.randn(2, 64, 32, generator=draws), torch.randn(50, 32, generator=draws)
    same, _ = agreement([group, group[:, torch.randperm(64, generator=draws)]], features)
    assert same["mmcs_between"] == pytest.approx(
        0.5 + same["mmcs_within"] / 2, abs=1e-5
    )  # half of the pairs are copies
    apart, _ = agreement([torch.randn(3, 64, 32, generator=draws) for _ in range(2)], features)
    assert apart["mmcs_between"] == pytest.approx(apart["mmcs_chance"], abs=0.02)
    assert apart["matched_within"] == pytest.approx(apart["matched_chance"], abs=0.02)


def test_agreement_is_the_mean_over_pairs_of_saes_both_ways(draws):
    groups, features = [torch.randn(3, 20, 8, generator=draws) for _ in range(2)], torch.randn(30, 8, generator=draws)
    found, arrays = agreement(groups, features)
    pairs = {
        "within": [pair for group in groups for pair in itertools.permutations(group, 2)],
        "between": [pair for a, b in itertools.permutations(groups) for pair in itertools.product(a, b)],
    }
    for where, every in pairs.items():
        assert found[f"mmcs_{where}"] == pytest.approx(np.mean([mmcs(a, b).item() for a, b in every]))
    assert arrays["within_max"].shape == arrays["between_max"].shape == arrays["input_max"].shape == (2, 3, 20)
    assert arrays["best"].shape == (2, 3, 30)
    assert arrays["input_max"][1, 2].mean() == pytest.approx(mmcs(groups[1][2], features).item())
    assert arrays["best"][1, 2].mean() == pytest.approx(mmcs(features, groups[1][2]).item())


def test_groups_start_apart_and_the_penalty_acts_within_them_only(tmp_path):
    store = Store(tmp_path)
    runs = {
        alpha: groups.run(groups.configure({"alpha": alpha, "steps": 60}, "smoke"), store, progress=False)
        for alpha in (0.0, 30.0)
    }
    plain, pulled = runs[0.0].results, runs[30.0].results
    rise = {name: pulled[name] - plain[name] for name in ("mmcs_within", "mmcs_between")}
    assert rise["mmcs_within"] > 0.1
    assert rise["mmcs_between"] < rise["mmcs_within"] / 2
    first = [next(one["loss"] for one in runs[0.0].metrics if (one["group"], one["step"]) == (g, 0)) for g in (0, 1)]
    assert not np.allclose(first[0], first[1], rtol=1e-6)


def test_the_best_sae_is_the_one_of_least_loss(tmp_path):
    found = groups.run(groups.configure({}, "smoke"), Store(tmp_path), progress=False).results
    assert found["best_loss"] < found["loss"]


def test_controls_have_at_least_the_compute_they_are_compared_with():
    chosen = {row.condition: row.run.config for row in groups.asked("quick", 1, {})}
    base, longer, wider = (chosen[name] for name in ("baseline", "baseline, longer", "baseline, 2 wider SAEs"))
    assert longer.steps == 1.5 * base.steps
    assert wider.n_saes * wider.n_features == base.n_saes * base.n_features


@pytest.mark.parametrize("field", ["n_replicas", "n_saes"])
def test_what_cannot_agree_is_refused(field):
    with pytest.raises(ConfigError, match=field):
        groups.configure({field: 1}, "smoke")
