"""Second derivatives are right or refused, never 0; and nothing depends on the caller's `torch.autocast`."""

import pytest
import torch

from mfrlib import ReLUSAE, TopKSAE, evaluate, matched_cosine, mmcs, mutual_feature_penalty
from mfrlib.models.kernels import compiled
from mfrlib.models.objectives import kl_divergence

X = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))


def stack(kind=TopKSAE, **options):
    rest = {"k": 4} if kind is TopKSAE else {}
    return kind(2, 8, 16, **rest, **options, generator=torch.Generator().manual_seed(0))


def slope(function, by, **options):
    by = by.detach().requires_grad_()
    return by, torch.autograd.grad(function(by), by, **options)[0]


def with_weight(method, weight, *inputs):
    sae = stack().to(weight.dtype)
    del sae.weight
    sae.weight = weight
    return getattr(sae, method)(*inputs)


ACTIVATIONS = [
    (lambda x: stack().to(x.dtype)(x).values.square().sum(), X),
    (lambda weight: with_weight("forward", weight, X.to(weight)).values.square().sum(), stack().weight),
]


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(("function", "by"), ACTIVATIONS)
def test_a_second_derivative_of_activations_is_that_of_the_plain_form_or_refused(function, by, kernels, monkeypatch):
    wide, gradient = slope(function, by.double(), create_graph=True)
    expected = torch.autograd.grad(gradient.square().sum(), wide)[0]
    if not kernels:
        monkeypatch.setattr(compiled, "available", lambda: False)
    narrow, found = slope(function, by, create_graph=True)
    torch.testing.assert_close(found, gradient.float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(found, slope(function, by)[1])
    if compiled.available():
        with pytest.raises(RuntimeError, match=r"create_graph=True: .*MFR_NATIVE=0"):
            torch.autograd.grad(found.square().sum() + 0 * function(narrow), narrow)
    else:
        again = torch.autograd.grad(found.square().sum(), narrow)[0]
        torch.testing.assert_close(again, expected.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["forward", "squared_error"])
def test_a_second_derivative_of_what_is_decoded_is_refused(method):
    by, gradient = slope(
        lambda weight: with_weight(method, weight, X)[0].square().sum(), stack().weight, create_graph=True
    )
    with pytest.raises(RuntimeError, match=r"create_graph=True|derivative for .* is not implemented"):
        (gradient.square().sum() + 0 * by.sum()).backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "function", [mutual_feature_penalty, lambda new: kl_divergence(torch.zeros(16, 8).to(new), new).sum()]
)
def test_a_second_derivative_of_penalty_and_divergence_is_refused_in_both_ways_of_asking(function, dtype):
    given = stack().weight.to(dtype)
    by, gradient = slope(function, given, create_graph=True)
    assert torch.equal(gradient, slope(function, given)[1])
    with pytest.raises(RuntimeError, match="create_graph=True"):
        (gradient.square().sum() + 0 * by.sum()).backward()
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.func.grad(lambda one: torch.func.grad(function)(one).square().sum())(given.detach())


SAES = [stack, lambda: stack(decoder_bias=True), lambda: stack(activation="relu"), lambda: stack(ReLUSAE)]


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("make", SAES)
def test_autocast_of_the_caller_changes_no_bit(make, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(compiled, "available", lambda: False)
    sae = make().requires_grad_(False)

    def everything():
        codes, logits = sae.encode(X), torch.stack([X, 2 * X])
        measures = [one(*sae.weight) for one in (mmcs, matched_cosine)]
        error = list(sae.squared_error(X)) if isinstance(sae, TopKSAE) else []
        found = [*sae(X), codes, sae.decode(codes), mutual_feature_penalty(sae.weight), kl_divergence(X, logits)]
        return found + measures + error, evaluate(sae, X).results

    plain, measured = everything()
    with torch.autocast("cpu", torch.bfloat16):
        found, again = everything()
    assert str(again) == str(measured)
    for mine, theirs in zip(found, plain, strict=True):
        assert torch.equal(mine, theirs)
