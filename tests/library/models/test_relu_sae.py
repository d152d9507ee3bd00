import numpy as np
import pytest
import torch

from mfrlib.config import ConfigError
from mfrlib.models.relu_sae import ReLUSAE, sparsity_loss


def stack(n_saes=2, d_in=5, n_features=8, seed=0, **options):
    return ReLUSAE(n_saes, d_in, n_features, generator=torch.Generator().manual_seed(seed), **options)


@pytest.fixture
def x(draws):
    return torch.randn(30, 5, generator=draws)


def shifted(sae, draws):
    """Move every parameter away from where it starts, so that none is zero."""
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws)
    return sae


def test_the_output_is_the_formula_for_each_sae(x, draws):
    sae = shifted(stack(), draws)
    output = sae(x)
    for one in range(2):
        encoder, bias, weight, shift = (
            value[one].detach().numpy() for value in (sae.encoder, sae.bias, sae.weight, sae.decoder_bias)
        )
        codes = np.maximum(x.numpy() @ encoder.T + bias, 0)
        rows = weight / np.linalg.norm(weight, axis=1, keepdims=True)
        np.testing.assert_allclose(output.codes[one].detach(), codes, atol=1e-6)
        np.testing.assert_allclose(output.reconstruction[one].detach(), codes @ rows + shift, atol=1e-5)


def test_gradients_are_those_of_finite_differences(draws):
    sae = shifted(stack(n_saes=2, d_in=3, n_features=4), draws).double()
    x = torch.randn(6, 3, generator=draws, dtype=torch.float64)
    parameters = dict(sae.named_parameters())

    def outputs(*values):
        return torch.func.functional_call(sae, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(outputs, tuple(parameters.values()))


def test_decoder_rows_stay_of_unit_norm_whatever_training_does(x):
    sae = stack()
    optimizer = torch.optim.Adam(sae.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (sae(x).reconstruction - x).square().mean().backward()
        optimizer.step()
    assert (sae.weight.norm(dim=-1) - 1).abs().max() > 0.1  # the weights themselves are free
    torch.testing.assert_close(sae.dictionary.norm(dim=-1), torch.ones(2, 8))
    torch.testing.assert_close(sae(x).reconstruction[1] - sae.decoder_bias[1], sae(x).codes[1] @ sae.dictionary[1])


def test_a_stack_is_its_members_alone(x, draws):
    both = shifted(stack(), draws)
    for one in range(2):
        alone = stack(n_saes=1)
        alone.load_state_dict({name: value[one : one + 1] for name, value in both.state_dict().items()})
        torch.testing.assert_close(alone(x).reconstruction[0], both(x).reconstruction[one])


def test_tied_starts_near_the_input_and_independent_does_not(draws):
    x = torch.randn(200, 16, generator=draws)
    for init in ("tied", "independent"):
        sae = ReLUSAE(1, 16, 64, init=init, generator=draws)
        cosine = torch.cosine_similarity(sae(x).reconstruction[0], x).mean()
        assert torch.equal(sae.encoder, sae.weight) == (init == "tied")
        assert (cosine > 0.8) == (init == "tied"), (init, cosine)


def test_the_decoder_starts_with_orthonormal_columns():
    weight = stack(d_in=5, n_features=8).weight[0]
    torch.testing.assert_close(weight.T @ weight, torch.eye(5), atol=1e-6, rtol=0)


def test_reinitialising_one_leaves_the_others_alone(draws):
    sae = shifted(stack(), draws)
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    sae.reinitialize(1, draws)
    for name, value in sae.state_dict().items():
        assert torch.equal(value[0], before[name][0]), name
        assert not torch.equal(value[1], before[name][1]), name


@pytest.mark.parametrize("init", ["tied", "independent"])
def test_one_seed_gives_one_start(init):
    first, again, other = (stack(seed=seed, init=init).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weight"], other["weight"])


def test_usage_counts_samples_not_strengths(x, draws):
    sae = shifted(stack(), draws)
    counts, n = sae.usage(sae(x))
    assert n == 30
    np.testing.assert_array_equal(counts, (sae(x).codes.detach().numpy() > 0).sum(1))


def test_sparsity_is_the_mean_norm_over_d_in():
    codes = torch.tensor([[[3.0, 0.0, 4.0], [0.0, 0.0, 2.0]]])
    assert sparsity_loss(codes, 10).tolist() == pytest.approx([(7 + 2) / 2 / 10])
    assert sparsity_loss(codes, 10, p=2).tolist() == pytest.approx([(5 + 2) / 2 / 10])


def test_sparsity_pulls_active_features_down_and_leaves_the_others():
    codes = torch.tensor([[[3.0, 0.0, 4.0]]], requires_grad=True)
    sparsity_loss(codes, 2).sum().backward()
    assert codes.grad.tolist() == [[[0.5, 0.0, 0.5]]]


def test_what_does_not_fit_is_refused(x):
    with pytest.raises(ValueError, match=r"d_in = 5.*\(30, 4\)"):
        stack()(x[:, :4])
    with pytest.raises(TypeError, match=r"float32.*float64"):
        stack()(x.double())
    with pytest.raises(ConfigError, match="init"):
        stack(init="untied")
