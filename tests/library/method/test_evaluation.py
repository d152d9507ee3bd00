"""Measures of a stack on held-out data."""

import copy

import numpy as np
import pytest
import torch

from mfrlib.config import ConfigError
from mfrlib.method.evaluation import evaluate, features_per_dimension
from mfrlib.method.similarity import mmcs
from mfrlib.models.objectives import reconstruction_loss
from mfrlib.models.sae import TopKSAE


@pytest.fixture
def x(draws):
    return torch.randn(60, 12, generator=draws)


def test_batches_of_any_size_give_the_same(x, draws):
    sae = TopKSAE(2, 12, 20, (2, 4), generator=draws)
    whole, parts = evaluate(sae, [x]), evaluate(sae, x.split(7))
    for name, values in whole.results.items():
        assert parts.results[name] == pytest.approx(values, rel=1e-5, abs=1e-5), name
    assert whole.n == parts.n == 60
    torch.testing.assert_close(whole.mean, x.mean(0))
    expected = reconstruction_loss(sae(x).reconstruction, x)
    assert whole.results["loss"] == pytest.approx(expected.tolist())


def test_every_sample_has_k_active_features(x, draws):
    results = evaluate(TopKSAE(2, 12, 20, (2, 4), generator=draws), [x]).results
    assert results["l0"] == [2, 4]
    cut = evaluate(TopKSAE(2, 12, 20, (2, 19), activation="relu", generator=draws), [x]).results
    assert cut["l0"][1] < 19


def test_a_feature_that_never_wins_is_dead(x, draws):
    sae = TopKSAE(1, 12, 20, 3, generator=draws)
    with torch.no_grad():
        sae.bias[0, :5] = -1e6
    found = evaluate(sae, [x])
    assert found.results["dead"][0] >= 5 / 20
    assert (found.rate[0, :5] == 0).all()


def test_a_dictionary_that_spans_everything_leaves_nothing_unexplained(x, draws):
    found = evaluate(TopKSAE(1, 12, 12, 12, generator=draws), [x]).results
    assert found["fvu"][0] == pytest.approx(0, abs=1e-9)
    assert found["loss"][0] == pytest.approx(0, abs=1e-9)


def test_likeness_is_to_the_others_and_not_to_itself(x, draws):
    sae = TopKSAE(3, 12, 20, (2, 4, 6), generator=draws)
    with torch.no_grad():
        sae.weight[1] = sae.weight[0]
    found = evaluate(sae, [x]).results["mmcs_across"]
    apart = mmcs(sae.weight[0], sae.weight[2]).item()
    assert found == pytest.approx([(1 + apart) / 2] * 2 + [mmcs(sae.weight[2], sae.weight[0]).item()], abs=1e-5)
    assert "mmcs_across" not in evaluate(TopKSAE(1, 12, 20, 3, generator=draws), [x]).results


def test_features_per_dimension_is_one_if_orthogonal_and_n_over_d_if_even(draws):
    basis = torch.linalg.qr(torch.randn(12, 12, generator=draws)).Q
    assert features_per_dimension(3 * basis[:7]) == pytest.approx(1, rel=1e-5)
    assert features_per_dimension(torch.cat([basis, -basis, basis.flip(0)])) == pytest.approx(3, rel=1e-5)
    assert features_per_dimension(basis[:1].repeat(5, 1)) == pytest.approx(5, rel=1e-5)


def test_dead_features_do_not_count_in_coherence(x, draws):
    sae = TopKSAE(1, 12, 12, 3, generator=draws)
    before = evaluate(sae, [x]).results
    assert before["coherence"][0] == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        sae.weight[0, 0] = sae.weight[0, 1]
        sae.bias[0, 0] = -1e6
    after = evaluate(sae, [x]).results
    assert after["coherence"][0] == pytest.approx(0, abs=1e-5)
    assert after["per_dimension"][0] == pytest.approx(1, rel=1e-5)
    assert 0 < after["coherence_chance"][0] < 1


def test_an_sae_without_a_feature_alive_is_measured(x, draws):
    sae = TopKSAE(1, x.shape[1], 20, 3, activation="relu", generator=draws)
    with torch.no_grad():
        sae.bias.fill_(-100)
    results = evaluate(sae, x).results
    assert results["dead"] == [1.0]
    assert np.isnan(results["coherence"]).all()


@pytest.mark.parametrize(
    "data", [None, 3, "text", [torch.full((4, 6), torch.nan)], [torch.ones(6)], [torch.ones(0, 6)]]
)
def test_what_is_no_data_is_refused_in_a_sentence(x, draws, data):
    with pytest.raises(ConfigError, match=r"data|batches: must give a batch"):
        evaluate(TopKSAE(1, x.shape[1], 20, 3, generator=draws), data)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_sae_in_half_precision_is_measured_in_single(x, draws, dtype):
    sae = TopKSAE(2, x.shape[1], 20, 3, generator=draws).to(dtype)
    half, single = evaluate(sae, x).results, evaluate(copy.deepcopy(sae).float(), x.to(dtype)).results
    for name in ("distance", "distance_matched", "mmcs_across", "dead"):
        assert half[name] == pytest.approx(single[name], abs=0.02), name
    assert half["fvu"] == pytest.approx(single["fvu"], rel=0.05)
    assert mmcs(sae.weight[0], sae.weight[1]).dtype == torch.float32


def test_what_is_no_sae_with_finite_weights_is_refused(x, draws):
    with pytest.raises(TypeError, match=r"sae: a TopKSAE, .* given Tensor"):
        evaluate(x, TopKSAE(1, x.shape[1], 20, 3, generator=draws))
    sae = TopKSAE(1, x.shape[1], 20, 3, generator=draws)
    sae.weight.data[0, 0] = torch.nan
    with pytest.raises(ConfigError, match="sae: must have finite weights"):
        evaluate(sae, x)


def test_what_half_precision_has_no_numbers_for_is_refused_with_its_place(x, draws):
    sae, large = TopKSAE(1, x.shape[1], 20, 3, generator=draws).half(), x.clone()
    large[1, 2] = 1e5
    with pytest.raises(ConfigError, match=rf"data from row {len(x)} on: .*float16.*row 1, column 2 is 100000"):
        evaluate(sae, [x, large])


def test_sums_over_many_batches_do_not_round(draws):
    x = 1 + torch.randn(2000, 6, generator=draws)
    sae = TopKSAE(2, 6, 20, 3, generator=draws)
    expected = (sae(x).reconstruction - x).detach().double().square().mean((1, 2)).tolist()
    assert evaluate(sae, x.split(1)).results["loss"] == pytest.approx(expected, rel=1e-7)
