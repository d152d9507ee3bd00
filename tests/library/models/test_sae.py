import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from mfrlib import ReLUSAE, TopKSAE, mutual_feature_penalty
from mfrlib.models.kernels import compiled
from mfrlib.models.stack import activation_counts


def make(n_saes=1, d_in=6, n_features=11, k=3, *, seed=0, dtype=torch.float64, **options):
    """Return a stack with random weights and biases."""
    draws = torch.Generator().manual_seed(seed)
    sae = TopKSAE(n_saes, d_in, n_features, k, generator=draws, **options).to(dtype)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
    return sae


def batch(n=9, d_in=6, *, seed=1, dtype=torch.float64):
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed)).to(dtype)


def single(stack, number):
    """Return one SAE of a stack as a stack of one."""
    _, n_features, d_in = stack.weight.shape
    one = TopKSAE(
        1,
        d_in,
        n_features,
        stack.k[number],
        decoder=stack.decoder_form,
        activation=stack.activation,
        decoder_bias=stack.decoder_bias is not None,
    ).to(stack.weight.dtype)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            parameter.copy_(getattr(stack, name)[number : number + 1])
    return one


def dense(weight, bias, x, k, *, decoder="normalized", activation="none", shift=None):
    """Return W' σ(W x + b) of one SAE, sample by sample with loops and a full code: the formula as it is printed."""
    rows = []
    shift = torch.zeros_like(x[0]) if shift is None else shift
    for sample in x - shift:
        hidden = weight @ sample + bias
        kept = torch.argsort(hidden, descending=True, stable=True)[:k]
        code = torch.zeros_like(hidden).index_put((kept,), hidden[kept])
        if activation == "relu":
            code = torch.clamp(code, min=0)
        columns = weight / weight.pow(2).sum(1, keepdim=True).sqrt() if decoder == "normalized" else weight
        rows.append(columns.T @ code + shift)
    return torch.stack(rows)


FORMS = [
    {},
    {"decoder": "raw"},
    {"activation": "relu"},
    {"decoder_bias": True},
    {"decoder": "raw", "activation": "relu", "decoder_bias": True},
]


@pytest.mark.parametrize("form", FORMS)
def test_forward_and_gradients_are_those_of_the_dense_formula(form):
    sae, x = make(**form), batch()
    plain = {name: value.detach()[0].clone().requires_grad_() for name, value in sae.named_parameters()}
    options = {name: value for name, value in form.items() if name != "decoder_bias"}
    expected = dense(plain["weight"], plain["bias"], x, 3, shift=plain.get("decoder_bias"), **options)
    output = sae(x)
    torch.testing.assert_close(output.reconstruction[0], expected, rtol=1e-12, atol=1e-12)

    direction = batch(seed=2)
    (output.reconstruction[0] * direction).sum().backward()
    (expected * direction).sum().backward()
    for name, value in plain.items():
        torch.testing.assert_close(sae.get_parameter(name).grad[0], value.grad, rtol=1e-10, atol=1e-12)


def test_single_precision_gradients_differ_from_dense_ones_by_rounding_only():
    sae, x = make(dtype=torch.float32, d_in=32, n_features=64, k=8), batch(50, 32, dtype=torch.float32)
    weight = sae.weight.detach()[0].double().requires_grad_()
    (dense(weight, sae.bias[0].double(), x.double(), 8) - x.double()).square().mean().backward()
    (sae(x).reconstruction[0] - x).square().mean().backward()
    assert (sae.weight.grad[0] - weight.grad).norm() <= 1e-5 * weight.grad.norm()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [3, (3, 3, 3), (2, 5, 1)])
def test_a_stack_is_its_saes_one_by_one(form, k):
    stack, x = make(3, k=k, **form), batch()
    output = stack(x)
    output.reconstruction.square().sum().backward()
    for number in range(3):
        one = single(stack, number)
        alone = one(x)
        torch.testing.assert_close(output.reconstruction[number], alone.reconstruction[0], rtol=1e-12, atol=1e-12)
        assert torch.equal(activation_counts(output, 11)[number], activation_counts(alone, 11)[0])
        alone.reconstruction.square().sum().backward()
        for name, parameter in one.named_parameters():
            torch.testing.assert_close(
                stack.get_parameter(name).grad[number], parameter.grad[0], rtol=1e-10, atol=1e-12
            )


def test_a_stack_of_one_and_one_k_for_all_are_the_same_as_a_list():
    assert make(1, k=4).k == make(1, k=[4]).k == (4,)
    x = batch()
    assert torch.equal(make(2, k=4)(x).reconstruction, make(2, k=(4, 4))(x).reconstruction)


@settings(max_examples=30, deadline=None)
@given(k=st.lists(st.integers(1, 11), min_size=1, max_size=4), seed=st.integers(0, 10_000))
def test_exactly_k_features_are_active_and_they_are_the_largest(k, seed):
    sae, x = make(len(k), k=k, seed=seed), batch(seed=seed + 1)
    output = sae(x)
    hidden = torch.einsum("sfd,bd->sbf", sae.weight, x) + sae.bias[:, None]
    for number, own in enumerate(k):
        values, indices = output.values[number], output.indices[number]
        assert ((values != 0).sum(1) == own).all()
        for sample in range(len(x)):
            kept = indices[sample][values[sample] != 0]
            assert len(kept.unique()) == own
            torch.testing.assert_close(values[sample][values[sample] != 0], hidden[number, sample, kept])
            rest = torch.ones(11, dtype=torch.bool).index_fill(0, kept, False)
            assert own == 11 or hidden[number, sample, kept].min() >= hidden[number, sample, rest].max()


def test_ties_keep_exactly_k():
    sae = make(1, k=4)
    with torch.no_grad():
        sae.weight[:] = sae.weight[:, :1]  # all rows alike: every feature ties with every other
        sae.bias[:] = 0.5
    output = sae(batch())
    assert output.values.shape == (1, 9, 4)
    assert all(len(one.unique()) == 4 for one in output.indices[0])
    assert (activation_counts(output, 11).sum() == 4 * 9).all()


def test_relu_cuts_and_cut_features_do_not_count_as_active():
    sae = make(1, k=11, activation="relu")
    output = sae(batch())
    assert (output.values >= 0).all()
    assert (output.values == 0).any()
    expected = (torch.einsum("sfd,bd->sbf", sae.weight, batch()) + sae.bias[:, None] > 0).sum(1)
    assert torch.equal(activation_counts(output, 11).long(), expected)


def test_negative_entries_are_kept_without_relu():
    sae = make(1, k=11)
    assert (sae(batch()).values < 0).any()


@pytest.mark.parametrize(("d_in", "n_features"), [(6, 11), (6, 6), (11, 6)])
def test_initial_weights_are_orthonormal_and_biases_zero(d_in, n_features, draws):
    sae = TopKSAE(3, d_in, n_features, 2, decoder_bias=True, generator=draws)
    for weight in sae.weight.detach():
        gram = weight.T @ weight if n_features >= d_in else weight @ weight.T
        torch.testing.assert_close(gram, torch.eye(min(d_in, n_features)), rtol=0, atol=1e-5)
    assert not sae.bias.any()
    assert not sae.decoder_bias.any()
    assert not torch.allclose(sae.weight[0], sae.weight[1])


def test_initial_weights_come_from_the_generator_only():
    first, second = (TopKSAE(2, 4, 6, 2, generator=torch.Generator().manual_seed(8)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)


def test_dictionary_has_unit_rows_unless_raw():
    torch.testing.assert_close(make().dictionary.norm(dim=-1), torch.ones(1, 11, dtype=torch.float64))
    raw = make(decoder="raw")
    assert raw.dictionary is raw.weight


def test_reinitialize_touches_one_sae_only(draws):
    sae = make(3, decoder_bias=True, dtype=torch.float32)
    before = {name: value.detach().clone() for name, value in sae.named_parameters()}
    storage = sae.weight.data_ptr()
    sae.reinitialize(1, draws)
    for name, value in sae.named_parameters():
        for other in (0, 2):
            assert torch.equal(value[other], before[name][other])
        assert not torch.equal(value[1], before[name][1])
    torch.testing.assert_close(sae.weight[1].T @ sae.weight[1], torch.eye(6), rtol=0, atol=1e-5)
    assert not sae.bias[1].any()
    assert not sae.decoder_bias[1].any()
    assert sae.weight.data_ptr() == storage  # the optimiser holds slices of it
    assert sae.weight.requires_grad


def test_an_input_of_another_width_is_refused_with_both_shapes():
    for shape in ((9, 7), (2, 9, 7), (7,), ()):
        with pytest.raises(ValueError, match=rf"d_in = 6.*{re.escape(str(shape))}"):
            make()(torch.zeros(shape, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"d_in = 6\), given ndarray; torch\.as_tensor"):
        make()(np.zeros((9, 6)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_of_any_dimensions_are_rows_over_the_last(form, dtype):
    sae, x = make(2, k=(2, 4), dtype=dtype, **form), batch(12, dtype=dtype)
    rows = sae(x)
    block, one = sae(x.view(2, 3, 2, 6)), sae(x[5])
    for name, value in rows._asdict().items():
        assert torch.equal(getattr(block, name).flatten(1, 3), value)
        torch.testing.assert_close(getattr(one, name), value[:, 5])
    assert block.reconstruction.shape == (2, 2, 3, 2, 6)
    assert one.values.shape == (2, 4)
    assert sae.encode(x.view(2, 3, 2, 6)).shape == (2, 2, 3, 2, 11)
    assert torch.equal(sae.usage(block)[0], sae.usage(rows)[0])
    assert sae.usage(block)[1] == 12
    x = x.requires_grad_()
    sae(x.view(3, 4, 6)).reconstruction.sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_codes_are_what_is_decoded(form, dtype):
    """With a smaller k in the stack too, where the kernels pad codes with feature 0."""
    sae, x = make(3, k=(2, 5, 1), dtype=dtype, **form), batch(40, dtype=dtype)
    codes, output = sae.encode(x), sae(x)
    assert codes.shape == (3, 40, 11)
    shift = 0 if sae.decoder_bias is None else sae.decoder_bias[:, None]
    torch.testing.assert_close(codes @ sae.dictionary + shift, output.reconstruction)
    assert torch.equal((codes != 0).sum(1).float(), activation_counts(output, 11))


@pytest.mark.parametrize(
    "stack", [make(2, k=(2, 4), decoder_bias=True), make(2, decoder="raw"), ReLUSAE(2, 6, 11).double()]
)
@pytest.mark.parametrize("shape", [(12, 6), (6,), (2, 3, 2, 6), (0, 6)])
def test_decoding_undoes_encoding(stack, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()
    output, codes = stack(x), stack.encode(x)
    torch.testing.assert_close(stack.decode(codes), output.reconstruction)
    if stack.k is not None:
        torch.testing.assert_close(stack.decode(output.values, output.indices), output.reconstruction)


def test_codes_of_another_stack_are_refused():
    stack, one = make(2), torch.zeros(1, 3, dtype=torch.int64)
    for codes in (
        (one,),
        (torch.tensor(1.0),),
        (torch.zeros(2, 4, 10),),
        (torch.zeros(3, 4, 11),),
        (torch.zeros(2, 4, 3), one),
    ):
        with pytest.raises(ValueError, match=r"codes: \(2, …, 11\)"):
            stack.decode(codes[0].double(), *codes[1:])


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("wrong", [-1, 11, 17])
def test_indices_of_no_feature_are_refused_though_the_next_sae_has_one_there(wrong, watched, monkeypatch):
    stack = make(2)
    output = stack(batch())
    indices = output.indices.clone()
    indices[0, 4, 1] = wrong
    monkeypatch.setattr(compiled, "watched", lambda: watched)  # where values cannot be waited for, PyTorch says it
    words = "valid range|embedding_bag" if watched else f"indices: features from 0 to 10, given .*{wrong}"
    with pytest.raises(RuntimeError if watched else ValueError, match=words):
        stack.decode(output.values, indices)
    assert torch.equal(stack.decode(output.values, output.indices.int()), stack.decode(output.values, output.indices))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.numpy(), "given ndarray; torch.as_tensor"),
        (lambda x: x.float(), "given torch.float32"),
        (lambda x: x.to_sparse(), "given torch.float64, torch.sparse_coo"),
        (lambda x: x.to("meta"), "on cpu.*given torch.float64, torch.strided, on meta"),
    ],
)
def test_what_is_no_dense_tensor_like_the_weights_is_refused(change, words):
    stack, x = make(2), batch()
    output = stack(x)
    for function, *inputs in (
        (stack, change(x)),
        (stack.squared_error, change(x)),
        (stack.decode, change(stack.encode(x).detach())),
        (stack.decode, change(output.values.detach()), output.indices),
        (stack.decode, output.values, change(output.indices.double())),
    ):
        with pytest.raises(TypeError, match=words):
            function(*inputs)
    with pytest.raises(TypeError, match=r"indices: .* of torch\.int64 or torch\.int32.* given torch\.float64"):
        stack.decode(output.values, output.indices.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_k_that_is_set_is_one_of_the_constructor_s(dtype):
    sae, x = make(2, dtype=dtype), batch(dtype=dtype)
    sae.k = 5
    assert sae.k == (5, 5)
    assert torch.equal(sae(x).reconstruction, make(2, k=5, dtype=dtype)(x).reconstruction)
    sae.k = np.array([2, 4])
    assert (sae.k, sae.settings["k"], sae(x).values.shape) == ((2, 4), [2, 4], (2, 9, 4))
    for wrong, words in (
        (12, "between 1 and n_features = 11.*12"), ((4, 0), "between 1.*0"), ((4,), "each of the 2 SAEs"), ("4", "must be int"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"k: .*{words}"):
            sae.k = wrong
        assert sae.k == (2, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"bias": torch.zeros(2, 7)},
        {"bias": torch.zeros(2, 1)},
        {"bias": torch.zeros(3, 11)},
        {"weight": torch.ones(2, 7, 6)},
        {"weight": torch.ones(3, 11, 6)},
        {"weight": torch.ones(2, 2, 6), "bias": torch.zeros(2, 2)},  # fewer features than k
    ],
)
def test_parameters_that_do_not_fit_each_other_are_refused(change):
    sae, x = make(2, dtype=torch.float32), batch(dtype=torch.float32)
    with pytest.raises((ValueError, RuntimeError), match=r"must fit each other, given \(9, 6\)|size|range"):
        torch.func.functional_call(sae, change, (x,))
    for name, value in change.items():
        setattr(sae, name, torch.nn.Parameter(value))
    for computed in (sae, sae.squared_error):
        with pytest.raises((ValueError, RuntimeError), match=r"must fit each other, given \(9, 6\)|size|range"):
            computed(x)


class TestWhatPyTorchDoesWithModules:
    """Transforms and modes look at each operation; compiled kernels have none to show."""

    @pytest.fixture
    def sae(self):
        return make(2, dtype=torch.float32)

    @pytest.fixture
    def x(self):
        return batch(12, dtype=torch.float32)

    def test_functional_gradients_are_autograd_s(self, sae, x):
        weights = dict(sae.named_parameters())

        def loss(weights):
            return torch.func.functional_call(sae, weights, (x,)).reconstruction.square().sum()

        found = torch.func.grad(loss)(weights)
        expected = torch.autograd.grad(loss(weights), list(weights.values()))
        for mine, theirs in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(mine, theirs)

    @pytest.mark.filterwarnings("ignore:There is a performance drop")
    def test_a_mapped_sae_is_one_batch_after_the_other(self, sae, x):
        found = torch.func.vmap(sae, out_dims=1)(x.view(3, 4, 6))
        torch.testing.assert_close(found.reconstruction, sae(x.view(3, 4, 6)).reconstruction)

    def test_shapes_are_found_without_data(self, x):
        """Once the kernels were handed the address of a tensor that has none, and the process ended."""
        with FakeTensorMode():
            sae = TopKSAE(2, 6, 11, 3)
            assert sae(torch.zeros(4, 6)).reconstruction.shape == (2, 4, 6)
            assert sae.squared_error(torch.zeros(4, 6)).error.shape == (2,)
            assert mutual_feature_penalty(sae.weight).shape == ()

    def test_a_default_device_is_not_that_of_codes(self, sae, x):
        expected = sae(x), mutual_feature_penalty(sae.weight)
        with torch.device("meta"):
            found = sae(x), mutual_feature_penalty(sae.weight)
        for mine, theirs in zip((*found[0], found[1]), (*expected[0], expected[1]), strict=True):
            assert torch.equal(mine, theirs)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
    def test_a_script_s_trace_holds_operations_of_pytorch(self, sae, x):
        """Once sizes that are tensors while tracing were handed to the kernels, and the process ended."""
        trace = torch.jit.trace(sae, x, check_trace=False)
        torch.testing.assert_close(trace(x[:7] + 1)[0], sae(x[:7] + 1).reconstruction)

    def test_a_traced_function_computes_other_rows_too(self, sae, x):
        graph = make_fx(lambda rows: sae(rows).reconstruction)(x)
        torch.testing.assert_close(graph(x + 1), sae(x + 1).reconstruction)


def test_training_takes_batches_only():
    with pytest.raises(ValueError, match=r"batch \(batch, d_in\), given shape \(3, 3, 6\)"):
        make().squared_error(batch().view(3, 3, 6))


@pytest.mark.parametrize("shifted", [False, True])
def test_a_training_step_sends_gradients_to_the_parameters_only(shifted):
    sae, x = make(decoder_bias=shifted), batch().requires_grad_()
    sae.squared_error(x).error.sum().backward()
    assert x.grad is None
    assert all(parameter.grad is not None for parameter in sae.parameters())


def test_a_batch_of_another_dtype_is_refused_with_both():
    with pytest.raises(TypeError, match=r"float64.*\(1, 11, 6\).*float32.*\(9, 6\)"):
        make()(torch.zeros(9, 6))


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((2, 6, 11, 0), {}, "between 1 and n_features = 11.*0"),
        ((2, 6, 11, 12), {}, "between 1 and n_features = 11.*12"),
        ((2, 6, 11, (3, 12)), {}, "between 1 and n_features = 11.*12"),
        ((2, 6, 11, (3, 3, 3)), {}, r"each of the 2 SAEs.*\(3, 3, 3\)"),
        ((2, 6, 11, 3), {"decoder": "tied"}, "'normalized', 'raw', given 'tied'"),
        ((2, 6, 11, 3), {"activation": "gelu"}, "'none', 'relu', given 'gelu'"),
        ((2, 6, 11, True), {}, "k: must be int or a list of int, given True"),
        ((2, 6, 11, 3.0), {}, r"k: must be int or a list of int, given 3\.0"),
        ((0, 6, 11, 3), {}, "n_saes: must be 1 or more, given 0"),
        ((2, -6, 11, 3), {}, "d_in: must be 1 or more, given -6"),
        ((2, 6, 11.0, 3), {}, r"n_features: must be int, given 11\.0"),
        ((2, 6, 11, 3), {"decoder_bias": "no"}, "decoder_bias: must be bool, given 'no'"),
    ],
)
def test_impossible_stacks_are_refused(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        TopKSAE(*arguments, **options)


def test_activation_counts_against_a_loop():
    sae, n = make(2, k=(2, 4)), 9
    output = sae(batch(n))
    expected = torch.zeros(2, 11)
    for number in range(2):
        for sample in range(n):
            for value, index in zip(output.values[number, sample], output.indices[number, sample], strict=True):
                expected[number, index] += value.item() != 0
    assert torch.equal(activation_counts(output, 11), expected)
    assert expected.sum(1).tolist() == [2 * n, 4 * n]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_row_of_zeros_stays_one_in_any_precision(dtype):
    for sae in (TopKSAE(2, 6, 11, 3).to(dtype), ReLUSAE(2, 6, 11).to(dtype)):
        with torch.no_grad():
            sae.weight[0, 4] = 0
        assert not sae.dictionary[0, 4].any()
        assert sae.dictionary.isfinite().all()
        assert sae(torch.randn(5, 6).to(dtype)).reconstruction.isfinite().all()
