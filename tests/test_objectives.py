import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfrlib.objectives import FVU, reconstruction_loss


def data(seed=0, n_saes=2, n=12, d_in=5):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n_saes, n, d_in, generator=draws), torch.randn(n, d_in, generator=draws) + 3


def test_loss_is_the_mean_squared_norm_over_samples():
    reconstruction, x = data()
    for reduction, divisor in (("mean", 5), ("sum", 1)):
        loss = reconstruction_loss(reconstruction, x, reduction)
        for number in range(2):
            norms = [np.linalg.norm(a - b) ** 2 for a, b in zip(reconstruction[number].numpy(), x.numpy(), strict=True)]
            assert loss[number].item() == pytest.approx(np.mean(norms) / divisor, rel=1e-5)


def test_each_sae_has_its_own_loss():
    reconstruction, x = data()
    reconstruction[1] = x
    loss = reconstruction_loss(reconstruction, x)
    assert loss[1] == 0
    assert loss[0] > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 11))
def test_fvu_over_a_stream_equals_fvu_of_all_at_once(seed, cut):
    reconstruction, x = data(seed)
    streamed = FVU()
    streamed.update(reconstruction[:, :cut], x[:cut])
    streamed.update(reconstruction[:, cut:], x[cut:])
    errors = ((reconstruction.numpy() - x.numpy()).astype(float) ** 2).sum((1, 2))
    expected = errors / ((x.numpy() - x.numpy().astype(float).mean(0)) ** 2).sum()
    np.testing.assert_allclose(streamed.value().numpy(), expected, rtol=1e-6)


def test_the_mean_alone_gives_one_and_perfection_zero():
    _, x = data(n=500)
    fvu = FVU()
    fvu.update(torch.stack([x.mean(0).expand_as(x), x]), x)
    mean, perfect = fvu.value().tolist()
    assert mean == pytest.approx(1, rel=1e-6)
    assert perfect == 0


def test_fvu_does_not_mind_a_mean_far_from_zero():
    reconstruction, x = data()
    near, far = FVU(), FVU()
    near.update(reconstruction, x)
    far.update(reconstruction.double() + 1e4, x.double() + 1e4)
    np.testing.assert_allclose(far.value().numpy(), near.value().numpy(), rtol=1e-5)
