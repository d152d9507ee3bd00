"""The sparse gradient equals autograd's own on the plain form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfrlib import sparse
from mfrlib.sparse import decode, decode_reference


def case(n_saes, batch, n_features, k, d_in, seed=0):
    draws = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n_saes, batch, n_features, generator=draws)
    values, indices = hidden.topk(k, sorted=False)
    dictionary = torch.randn(n_saes, n_features, d_in, generator=draws)
    return values.contiguous(), indices, dictionary, torch.randn(n_saes, batch, d_in, generator=draws)


def gradients(function, values, indices, dictionary, d_sums):
    values, dictionary = values.clone().requires_grad_(), dictionary.clone().requires_grad_()
    sums = function(values, indices, dictionary)
    (sums * d_sums).sum().backward()
    return sums.detach(), values.grad, dictionary.grad


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(2, 30), st.integers(1, 16), st.data())
def test_value_and_gradients_equal_the_reference(n_saes, batch, n_features, d_in, data):
    k = data.draw(st.integers(1, n_features))
    inputs = case(n_saes, batch, n_features, k, d_in, data.draw(st.integers(0, 99)))
    wide = [one.double() if one.is_floating_point() else one for one in inputs]
    for found, expected in zip(gradients(decode, *inputs), gradients(decode_reference, *wide), strict=True):
        assert relative(found.double(), expected) < 1e-5


def test_batches_longer_than_a_tile(monkeypatch):
    inputs = case(2, 50, 20, 4, 8)
    whole = gradients(decode, *inputs)
    monkeypatch.setattr(sparse, "ROWS", 7)
    for found, expected in zip(gradients(decode, *inputs), whole, strict=True):
        assert relative(found, expected) < 1e-6


def test_values_of_zero_still_get_their_gradient():
    values, indices, dictionary, d_sums = case(1, 9, 12, 3, 5)
    values[:, :, 1] = 0
    for found, expected in zip(
        gradients(decode, values, indices, dictionary, d_sums),
        gradients(decode_reference, values, indices, dictionary, d_sums),
        strict=True,
    ):
        assert relative(found, expected) < 1e-5


def test_the_reference_serves_where_there_is_no_mkl(monkeypatch):
    inputs = case(2, 10, 20, 4, 8)
    expected = gradients(decode, *inputs)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(sparse, "_SparseDecode", None)
    for found, wanted in zip(gradients(decode, *inputs), expected, strict=True):
        assert relative(found, wanted) < 1e-5


def test_one_input_gives_the_same_bits_twice():
    inputs = case(2, 3000, 64, 8, 16)
    for first, second in zip(gradients(decode, *inputs), gradients(decode, *inputs), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_use_the_reference(dtype):
    values, indices, dictionary, _ = case(1, 4, 8, 2, 5)
    assert decode(values.to(dtype), indices, dictionary.to(dtype)).dtype == dtype
