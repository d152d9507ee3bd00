"""The spread of errors over samples, from histograms, against what whole arrays give."""

import pytest
import torch

from mfrlib.method.spread import ErrorSpread


def data(n=3000, seed=0):
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=draws) * torch.randn(n, 1, generator=draws).exp()
    scale = torch.tensor([0.1, 0.5])[:, None, None]
    return x, x + scale * torch.randn(2, n, 6, generator=draws)


def test_the_median_is_that_of_all_samples():
    x, reconstruction = data()
    spread = ErrorSpread(2)
    for part in range(0, 3000, 700):
        spread.update(reconstruction[:, part : part + 700], x[part : part + 700])
    exact = ((reconstruction - x).square().sum(-1) / x.square().sum(-1)).median(-1).values
    torch.testing.assert_close(spread.median().float(), exact, rtol=0.01, atol=0)


def test_the_longest_samples_share_is_that_of_all_samples():
    x, reconstruction = data()
    reconstruction = x + 0.3 * (reconstruction - x) * x.norm(dim=-1, keepdim=True)
    spread = ErrorSpread(2)
    spread.update(reconstruction, x)
    error = (reconstruction - x).square().sum(-1)
    longest = x.norm(dim=-1).topk(30).indices
    torch.testing.assert_close(
        spread.share_of_largest().float(), error[:, longest].sum(1) / error.sum(1), rtol=0.02, atol=0
    )


def test_one_long_sample_moves_the_share_and_not_the_median():
    x, reconstruction = data()
    plain, with_one = ErrorSpread(2), ErrorSpread(2)
    plain.update(reconstruction, x)
    x[0], reconstruction[:, 0] = 1e4, 0.0
    with_one.update(reconstruction, x)
    assert with_one.share_of_largest().min() > 0.9 > plain.share_of_largest().max()
    assert with_one.median() == pytest.approx(plain.median(), rel=0.01)


def test_samples_of_length_zero_and_exact_reconstructions_are_counted():
    x = torch.zeros(4, 3)
    spread = ErrorSpread(1)
    spread.update(x[None], x)
    assert spread.samples.sum() == 4
    assert torch.isfinite(spread.median()).all()


@pytest.mark.parametrize("unit", [1e-30, 1e-8, 1e6, 1e15])
def test_the_unit_of_the_data_changes_nothing(unit):
    x, reconstruction = (one.double() for one in data())
    plain, scaled = ErrorSpread(2), ErrorSpread(2)
    for part in range(0, 3000, 700):
        plain.update(reconstruction[:, part : part + 700], x[part : part + 700])
        scaled.update(unit * reconstruction[:, part : part + 700], unit * x[part : part + 700])
    torch.testing.assert_close(scaled.median(), plain.median(), rtol=0.01, atol=0)
    torch.testing.assert_close(scaled.share_of_largest(), plain.share_of_largest(), rtol=0.03, atol=0)


def test_errors_on_samples_of_zeros_are_infinite_beside_them():
    spread = ErrorSpread(1)
    spread.update(torch.ones(1, 4, 3), torch.zeros(4, 3))
    assert spread.median().item() == float("inf")
