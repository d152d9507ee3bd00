import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mfrbook.chapters.end_to_end import stability
from mfrbook.store.runs import Run
from mfrlib.method.similarity import chance_level, matched_cosine, mmcs


def run(weight, ce=(0.1, 0.2), rate=None, seed=0):
    weight = torch.as_tensor(weight)
    n_saes, n_features, _ = weight.shape
    results = {"l0": [3.0] * n_saes, "alive": [n_features] * n_saes, "ce_increase": list(ce)[:n_saes]}
    results |= {"kl": list(ce)[:n_saes], "explained_variance": [0.5] * n_saes, "later": {}}
    config = {"seed": seed, "sae": "relu", "sparsity": [1.0] * n_saes}
    rate = np.ones((n_saes, n_features)) if rate is None else rate
    return Run("end-to-end", config, "test", results, arrays={"rate": rate}, weights={"weight": weight})


@pytest.fixture
def seeds(draws):
    """Three seeds; local SAEs are one dictionary with little noise, end-to-end ones are random."""
    shared = torch.randn(1, 96, 16, generator=draws)
    return [
        {
            "local": run(shared + 0.05 * torch.randn(1, 96, 16, generator=draws), [0.12], seed=seed),
            "e2e": run(torch.randn(2, 96, 16, generator=draws), seed=seed),
        }
        for seed in range(3)
    ]


def test_a_dictionary_is_the_unit_rows_of_alive_features(draws):
    weight = torch.randn(2, 5, 4, generator=draws)
    rate = np.ones((2, 5))
    rate[1, [0, 3]] = 0
    rows = stability.dictionary(run(weight, rate=rate), 1)
    torch.testing.assert_close(rows, normalize(weight[1, [1, 2, 4]], dim=-1))


def test_likeness_does_not_depend_on_order_sign_of_comparison_or_scale(draws):
    a, b = torch.randn(20, 8, generator=draws), torch.randn(12, 8, generator=draws)
    assert stability.likeness(a, b) == pytest.approx(stability.likeness(b, a))
    assert stability.likeness(a, b) == pytest.approx((mmcs(a, b) + mmcs(b, a)).item() / 2)
    assert stability.likeness(3 * a[torch.randperm(20)], a) == pytest.approx(1, abs=1e-6)
    assert stability.likeness(a, a[torch.randperm(20)], matched=True) == pytest.approx(1, abs=1e-6)
    assert stability.likeness(a[:12], b, matched=True) == pytest.approx(matched_cosine(a[:12], b).item())


def test_likeness_with_no_feature_is_not_known(draws):
    assert np.isnan(stability.likeness(torch.zeros(0, 8), torch.randn(3, 8, generator=draws)))


def test_seeds_are_compared_with_other_seeds_only(seeds):
    found = stability.across_seeds(seeds, ("local", 0), ("e2e", 1))
    assert np.isnan(np.diag(found)).all()
    rows = (
        normalize(seeds[2]["local"].weights["weight"][0], dim=-1),
        normalize(seeds[0]["e2e"].weights["weight"][1], dim=-1),
    )
    assert found[2, 0] == pytest.approx(stability.likeness(*rows))
    assert found[2, 0] != found[0, 2]  # local of 2 with e2e of 0, and the other way round
    same = stability.across_seeds(seeds, ("e2e", 0), ("e2e", 0))
    np.testing.assert_array_equal(same, same.T)


def test_stable_dictionaries_are_above_chance_and_random_ones_at_it(seeds):
    stable, random = (
        stability.across_seeds(seeds, (name, 0), (name, 0), above_chance=True)[0, 1] for name in ("local", "e2e")
    )
    assert stable > 0.3
    assert abs(random) < 0.02


@pytest.mark.parametrize("matched", [False, True])
def test_chance_is_that_of_random_dictionaries_of_nearly_these_sizes(draws, matched):
    a, b = torch.randn(70, 8, generator=draws), torch.randn(30, 8, generator=draws)
    both = [chance_level(*sizes, 8, matched=matched, n_draws=20) for sizes in ((70, 30), (30, 70))]
    expected = both[1] if matched else np.mean(both)
    assert stability.chance(a, b, matched=matched) == pytest.approx(expected, abs=0.03)
    assert stability.chance(a, b, matched=matched) == stability.chance(b, a, matched=matched)


def test_comparable_saes_are_those_nearest_in_loss(draws):
    def stack(ce):
        return run(torch.randn(len(ce), 5, 4, generator=draws), ce)

    seeds = [{"e2e": stack([0.3, 0.9]), "local": stack([0.1, 0.28, 0.5]), "downstream": stack([0.35, 0.2])}] * 2
    assert stability.comparable(seeds) == {"e2e": 0, "local": 1, "downstream": 0}


def test_within_groups_is_the_mean_over_the_pairs_of_a_stack(draws):
    weight = torch.randn(3, 10, 4, generator=draws)
    rows = normalize(weight, dim=-1)
    pairs = [stability.likeness(rows[i], rows[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    runs = [{"e2e": run(weight, [0.1, 0.2, 0.3])}]
    assert stability.within_groups(runs, "e2e") == pytest.approx([np.mean(pairs)])
