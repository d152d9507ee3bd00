import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfrlib.models.objectives import FVU, kl_divergence, reconstruction_loss


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


def test_kl_of_a_case_worked_by_hand():
    """P = (1/2, 1/2), q = (1/4, 3/4): KL(p ‖ q) = ln 2 - (ln 3)/2 and not KL(q ‖ p) = (3/4) ln 3 - ln 2."""
    original = torch.tensor([[0.0, 0.0]])
    new = torch.tensor([[[0.0, float(np.log(3))]]])
    by_hand, other_way = np.log(2) - np.log(3) / 2, 0.75 * np.log(3) - np.log(2)
    assert kl_divergence(original, new).item() == pytest.approx(by_hand, rel=1e-6)
    assert by_hand != pytest.approx(other_way, rel=0.05)


def test_kl_is_the_mean_over_positions_of_each_sae():
    original, new = torch.zeros(2, 2), torch.zeros(2, 2, 2)
    new[1, 0, 1] = np.log(3.0)  # one position of the second SAE
    assert kl_divergence(original, new).tolist() == pytest.approx([0, (np.log(2) - np.log(3) / 2) / 2], abs=1e-7)


def logits(seed, n=150, scale=5.0):
    """More positions than a tile, and not a multiple of one."""
    draws = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 11, generator=draws), scale * torch.randn(2, n, 11, generator=draws)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 30))
def test_kl_is_that_of_pytorch(seed, scale):
    original, new = logits(seed, scale=scale)
    expected = [
        torch.nn.functional.kl_div(
            one.double().log_softmax(-1), original.double().log_softmax(-1), log_target=True, reduction="batchmean"
        )
        for one in new
    ]
    torch.testing.assert_close(kl_divergence(original, new).double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_kl_of_the_same_logits_is_exactly_zero_and_so_is_its_gradient():
    original, _ = logits(0)
    new = original.expand(2, -1, -1).clone().requires_grad_()
    loss = kl_divergence(original, new)
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert new.grad.abs().max() == 0


def test_kl_does_not_mind_a_shift_of_all_logits_or_huge_ones():
    original, new = logits(1)
    torch.testing.assert_close(kl_divergence(original, new + 50), kl_divergence(original, new), rtol=1e-4, atol=0)
    assert torch.isfinite(kl_divergence(original * 1e3, new * 1e3)).all()


def test_kl_has_the_gradient_of_finite_differences_and_gives_none_to_the_original():
    original, new = (value.double().requires_grad_() for value in logits(2, n=70, scale=1.0))
    assert torch.autograd.gradcheck(lambda given: kl_divergence(original, given), (new,))
    kl_divergence(original, new).sum().backward()
    assert original.grad is None


def test_kl_refuses_logits_that_do_not_belong_together():
    original, new = logits(3)
    with pytest.raises(ValueError, match=r"\(150, 11\).*\(2, 149, 11\)"):
        kl_divergence(original, new[:, 1:])


@pytest.mark.parametrize("value", [0.0, 1.37, -1e-3, 1e9])
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fvu_of_data_that_do_not_vary_is_inf(value, size, dtype):
    fvu = FVU()
    for x in torch.full((1000, 5), value, dtype=dtype).split(size):
        fvu.update(torch.stack([0.5 * x, x + 1]), x)
    assert fvu.value().tolist() == [torch.inf] * 2


def test_fvu_of_what_is_not_finite_is_nan():
    reconstruction, x = data()
    fvu = FVU()
    fvu.update(reconstruction * torch.tensor([torch.nan, 1])[:, None, None], x)
    assert fvu.value().isnan().tolist() == [True, False]
