"""The compiled kernels equal the plain form, which equals a dense one written out."""

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfrlib.models import sparse
from mfrlib.models.kernels import compiled, native, tied
from mfrlib.models.sparse import decode, reference, tied_topk

needs_kernels = pytest.mark.skipif(not compiled.available(), reason="no C compiler here: the plain form serves")


def case(n_saes=2, batch=9, n_features=12, d_in=5, seed=0, dtype=torch.float32):
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, d_in, generator=draws)
    weight = torch.randn(n_saes, n_features, d_in, generator=draws)
    bias = 0.3 * torch.randn(n_saes, n_features, generator=draws)
    return [one.to(dtype) for one in (x, weight, bias)]


def gradients(function, inputs, k, through_values=True, **options):
    """Return output and gradients of a loss that weighs reconstructions, and values too, at random."""
    inputs = [one.clone().requires_grad_() for one in inputs]
    codes = function(*inputs, k, **options)
    draws = torch.Generator().manual_seed(5)
    loss = (codes.sums * torch.randn(codes.sums.shape, generator=draws).to(codes.sums)).sum()
    if through_values:
        weights = torch.randn(inputs[1].shape[:2], generator=draws).to(loss)  # a weight per feature: order is free
        loss = loss + (codes.values * weights.gather(1, codes.indices.flatten(1)).view_as(codes.values)).sum()
    loss.backward()
    return codes, [one.grad for one in inputs]


def relative(a, b):
    a, b = a.detach(), b.detach()
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))


def chosen(codes, n_features):
    """Return the codes as dense vectors."""
    dense = torch.zeros(*codes.indices.shape[:2], n_features, dtype=codes.values.dtype)
    return dense.scatter_add_(2, codes.indices, codes.values)


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 300), st.integers(2, 40), st.integers(1, 80),
    st.booleans(), st.booleans(), st.booleans(), st.data(),
)  # fmt: skip
def test_kernels_equal_the_plain_form(n_saes, batch, n_features, d_in, unit_rows, relu, through_values, data):
    k = [data.draw(st.integers(1, n_features)) for _ in range(n_saes)]
    if data.draw(st.booleans()):
        k = k[:1] * n_saes
    inputs = case(n_saes, batch, n_features, d_in, data.draw(st.integers(0, 99)))
    options = {"unit_rows": unit_rows, "relu": relu}
    fast, fast_gradients = gradients(tied_topk, inputs, k, through_values, **options)
    wide, wide_gradients = gradients(reference, [one.double() for one in inputs], k, through_values, **options)
    assert relative(chosen(fast, n_features), chosen(wide, n_features)) < 1e-5
    assert relative(fast.sums, wide.sums) < 1e-5
    # The gradient of a unit row is divided by the length the row had, and its rounding too.
    shortest = float(inputs[1].norm(dim=-1).min().clamp(max=1)) if unit_rows else 1.0
    for found, expected, scale in zip(fast_gradients, wide_gradients, (1.0, shortest, 1.0), strict=True):
        assert float((found - expected).norm()) <= 1e-5 * float(expected.norm()) / scale + 1e-6


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tiles_and_threads_change_nothing(threads):
    """Several tiles of rows both ways, and every number of threads: the same bits."""
    inputs, options = case(2, 1500, 64, 70), {"unit_rows": True, "relu": False}
    _, expected = gradients(tied_topk, inputs, [5, 9], **options)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        codes, found = gradients(tied_topk, inputs, [5, 9], **options)
    finally:
        torch.set_num_threads(before)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert torch.equal(one, other)
    wide, wide_gradients = gradients(reference, [one.double() for one in inputs], [5, 9], **options)
    assert relative(codes.sums, wide.sums) < 1e-5
    for one, other in zip(found, wide_gradients, strict=True):
        assert relative(one, other) < 1e-5


@needs_kernels
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 600), st.booleans(), st.booleans(), st.data())
def test_the_squared_error_and_its_gradient_equal_the_plain_form_s(n_saes, batch, unit_rows, relu, data):
    k = [data.draw(st.integers(1, 12)) for _ in range(n_saes)]
    inputs = case(n_saes, batch, 12, 7, data.draw(st.integers(0, 99)))
    options = {"unit_rows": unit_rows, "relu": relu, "factor": data.draw(st.sampled_from([1.0, 0.01]))}
    weights = torch.rand(n_saes) if data.draw(st.booleans()) else torch.ones(n_saes)
    fast = [inputs[0], *(one.clone().requires_grad_() for one in inputs[1:])]
    found = sparse.squared_error(*fast, k, **options)
    (found.error * weights).sum().backward()
    wide = [inputs[0].double(), *(one.double().requires_grad_() for one in inputs[1:])]
    expected = sparse.squared_error(*wide, k, **options)
    (expected.error * weights).sum().backward()
    assert relative(found.error, expected.error) < 1e-5
    assert relative(chosen(found, 12), chosen(expected, 12)) < 1e-5
    for one, other in zip(fast[1:], wide[1:], strict=True):
        assert float((one.grad - other.grad).norm()) <= 1e-5 * float(other.grad.norm()) + 1e-6


@needs_kernels
class TestSelect:
    def select(self, hidden, k):
        values, indices = torch.empty(len(hidden), k), torch.empty(len(hidden), k, dtype=torch.int64)
        native.select(hidden, k, values, indices)
        torch.testing.assert_close(values, hidden.gather(1, indices), rtol=0, atol=0, equal_nan=True)
        assert all(len(set(row)) == k for row in indices.tolist())
        return values, indices

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_the_k_largest_whatever_the_numbers(self, data):
        numbers = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, float("inf"), float("-inf")])
        n = data.draw(st.integers(1, 40))
        rows = data.draw(st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=4))
        k = data.draw(st.integers(1, n))
        hidden = torch.tensor(rows)
        values, _ = self.select(hidden, k)
        assert torch.equal(values.sort(descending=True).values, hidden.topk(k).values)

    def test_equals_are_taken_from_the_left(self):
        hidden = torch.tensor([[1.0, 2.0, 1.0, 1.0, 3.0], [7.0, 7.0, 7.0, 7.0, 7.0]])
        _, indices = self.select(hidden, 3)
        assert [sorted(row) for row in indices.tolist()] == [[0, 1, 4], [0, 1, 2]]

    def test_more_than_there_are_end(self):
        values, indices = torch.empty(2, 5), torch.full((2, 5), -1)
        native.select(torch.tensor([[1.0, 3.0, 2.0], [1.0, 1.0, 1.0]]), 5, values, indices)
        assert [sorted(row) for row in indices[:, :3].tolist()] == [[0, 1, 2]] * 2
        assert not indices[:, 3:].any()

    def test_nan_is_selected_so_that_it_is_noticed(self):
        hidden = torch.randn(3, 50)
        hidden[1, 7] = float("nan")
        hidden[2] = float("nan")
        values, indices = self.select(hidden, 4)
        assert values.isnan().sum(1).tolist() == [0, 1, 4]
        assert 7 in indices[1].tolist()

    @pytest.mark.parametrize("scale", [1e-38, 1.0, 1e37])
    def test_rows_of_unlike_scale_after_one_another(self, scale):
        hidden = torch.randn(64, 300, generator=torch.Generator().manual_seed(1))
        hidden[::2] *= scale
        values, _ = self.select(hidden, 20)
        assert torch.equal(values.sort(descending=True).values, hidden.topk(20).values)


def test_the_plain_form_equals_a_dense_one():
    x, weight, bias = case(2, 7, 10, 4, dtype=torch.float64)
    codes = reference(x, weight, bias, [2, 3], unit_rows=True, relu=False)
    for sae, k in enumerate([2, 3]):
        hidden = x @ weight[sae].T + bias[sae]
        dense = torch.where(hidden >= hidden.topk(k).values[:, -1:], hidden, 0)
        unit = weight[sae] / weight[sae].norm(dim=1, keepdim=True)
        torch.testing.assert_close(codes.sums[sae], dense @ unit)


def test_decoding_the_codes_gives_the_sums():
    x, weight, bias = case()
    codes = tied_topk(x, weight, bias, [2, 3], unit_rows=False, relu=False)
    torch.testing.assert_close(decode(codes.values, codes.indices, weight), codes.sums)


def test_without_kernels_the_plain_form_serves(monkeypatch):
    inputs, options = case(), {"unit_rows": True, "relu": True}
    _, expected = gradients(tied_topk, inputs, [3, 3], **options)
    monkeypatch.setattr(compiled, "available", lambda: False)
    monkeypatch.setattr(tied, "TiedTopK", None)
    for found, wanted in zip(gradients(tied_topk, inputs, [3, 3], **options)[1], expected, strict=True):
        assert relative(found, wanted) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_use_the_plain_form(dtype):
    assert tied_topk(*case(dtype=dtype), [2, 2], unit_rows=True, relu=False).sums.dtype == dtype


@pytest.mark.parametrize("k", [[2, 2], [2, 3]])
def test_outputs_are_freed_with_their_last_name(k):
    inputs = [one.requires_grad_() for one in case()]
    codes = tied_topk(*inputs, k, unit_rows=True, relu=False)
    codes.sums.square().sum().backward()
    held = [weakref.ref(codes.values), weakref.ref(codes.indices)]
    del codes
    gc.collect()
    assert [one() for one in held] == [None, None]


def test_an_empty_batch():
    x, weight, bias = case()
    assert tied_topk(x[:0], weight, bias, [2, 2], unit_rows=True, relu=False).sums.shape == (2, 0, 5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own
def test_the_plain_form_compiles_as_one_graph_which_is_what_a_gpu_runs():
    inputs, options = case(2, 30, 12, 5), {"unit_rows": True, "relu": False}
    compiled = torch.compile(reference, fullgraph=True, dynamic=False)
    _, expected = gradients(reference, inputs, [3, 4], False, **options)
    _, found = gradients(compiled, inputs, [3, 4], False, **options)
    for one, other in zip(found, expected, strict=True):
        assert relative(one, other) < 1e-5
