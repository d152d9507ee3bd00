"""A stack of SAEs as a denoiser of windows and long signals."""

import numpy as np
import pytest
import torch

from mfrlib.config import ConfigError
from mfrlib.denoising.stack import denoising_loss, estimates, overlap_add
from mfrlib.models.sae import TopKSAE


def signals(seed=0):
    return np.random.default_rng(seed).standard_normal((3, 5000))


def test_overlap_add_keeps_leading_axes_and_blocks_do_not_matter(monkeypatch):
    x = signals()[:, :1234]
    double = overlap_add(x, 100, lambda windows: np.stack([windows, 2 * windows]), 0.5)
    assert np.allclose(double, np.stack([x, 2 * x]), rtol=1e-12)
    monkeypatch.setattr("mfrlib.denoising.stack.BLOCK", 1)
    assert np.array_equal(overlap_add(x, 100, lambda w: np.stack([w, 2 * w]), 0.5), double)
    for values, words in (({"overlap": 1.0}, "overlap"), ({"width": 2000}, "signals: must be as long as a window")):
        with pytest.raises(ConfigError, match=words):
            overlap_add(x, **{"width": 100, "denoise": lambda w: w, **values})


def test_the_loss_is_that_of_the_clean_half_and_trains_the_whole_sae():
    sae = TopKSAE(2, 10, 16, (2, 4), generator=torch.Generator().manual_seed(0))
    noisy, clean = torch.randn(2, 30, 10, generator=torch.Generator().manual_seed(1))
    loss, output = denoising_loss(sae, torch.cat([noisy, clean], dim=1))
    assert torch.allclose(loss, (sae(noisy).reconstruction - clean).square().mean((1, 2)))
    assert output.values.shape == (2, 30, 4)
    loss.sum().backward()
    assert sae.weight.grad.abs().sum(-1).count_nonzero() > 0
    same, _ = denoising_loss(sae, torch.cat([noisy, noisy], dim=1))
    assert torch.allclose(same, (sae(noisy).reconstruction - noisy).square().mean((1, 2)))


def test_estimates_are_in_the_windows_own_unit():
    sae = TopKSAE(1, 10, 10, 10, generator=torch.Generator().manual_seed(0))
    x = 1e-5 * np.random.default_rng(0).standard_normal((7, 10))
    assert np.allclose(estimates(sae, x)[0], x, rtol=0, atol=1e-10)
