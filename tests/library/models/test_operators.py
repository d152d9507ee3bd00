"""A TopK SAE in `torch.compile` and `torch.export`: whole graphs, the same outputs and gradients."""

import copy
import subprocess
import sys
import time
import warnings

import pytest
import torch

from mfrbook.store.provenance import PROJECT
from mfrlib.models import operators, sparse
from mfrlib.models.kernels import compiled
from mfrlib.models.sae import TopKSAE

FORMS = [
    {},
    {"k": (2, 5)},
    {"decoder": "raw", "activation": "relu", "decoder_bias": True},
]
NEEDS_KERNELS = pytest.mark.skipif(not compiled.available(), reason="no C compiler")


@pytest.fixture(autouse=True)
def quiet_compiler():
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own code
        yield


def make(dtype=torch.float32, **options):
    draws = torch.Generator().manual_seed(0)
    sae = TopKSAE(2, 6, 11, **{"k": 3, **options}, generator=draws)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws)
    return sae.to(dtype)


@pytest.fixture
def x(draws):
    return torch.randn(30, 6, generator=draws)


@NEEDS_KERNELS
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(30, 6), (6,), (2, 5, 6)])
def test_a_compiled_sae_is_one_graph_and_gives_the_same(form, size, draws):
    sae, x = make(**form), torch.randn(size, generator=draws, requires_grad=True)
    compiled = torch.compile(sae, fullgraph=True, backend="aot_eager")
    for mine, theirs in zip(sae(x), compiled(x), strict=True):
        assert torch.equal(mine, theirs)


@NEEDS_KERNELS
@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_a_compiled_sae_are_those_of_the_plain_one(form, x):
    plain, other = make(**form), make(**form)
    direction = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(3))
    found = []
    for sae, call in ((plain, plain), (other, torch.compile(other, fullgraph=True, backend="aot_eager"))):
        rows = x.clone().requires_grad_()
        output = call(rows)
        ((output.reconstruction * direction).sum() + output.values.square().sum()).backward()
        found.append([rows.grad, *(one.grad for one in sae.parameters())])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, mine)


@NEEDS_KERNELS
@pytest.mark.parametrize("form", FORMS)
def test_a_compiled_training_step_is_the_plain_one(form, x):
    plain, other = make(**form), make(**form)
    step = torch.compile(lambda x: other.squared_error(x, 0.5), fullgraph=True, backend="aot_eager")
    mine, theirs = plain.squared_error(x, 0.5), step(x)
    torch.testing.assert_close(theirs.error, mine.error)
    assert torch.equal(theirs.indices, mine.indices)
    (mine.error * torch.tensor([1.0, 3.0])).sum().backward()
    (theirs.error * torch.tensor([1.0, 3.0])).sum().backward()
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_without_kernels_the_plain_form_is_traced(dtype, x, monkeypatch):
    monkeypatch.setattr(compiled, "available", lambda: False)
    sae, x = make(dtype), x.to(dtype)
    for mine, theirs in zip(sae(x), torch.compile(sae, fullgraph=True, backend="aot_eager")(x), strict=True):
        torch.testing.assert_close(theirs, mine)
    program = torch.export.export(sae, (x,))
    assert "mfrlib" not in str(program.graph)
    torch.testing.assert_close(program.module()(x).reconstruction, sae(x).reconstruction)


@NEEDS_KERNELS
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_an_exported_sae_takes_batches_of_any_size(form, strict, x):
    sae = make(**form)
    program = torch.export.export(sae, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=2)}}, strict=strict)
    assert "mfrlib.tied_topk" in str(program.graph)
    for rows in (x, x[:7]):
        for mine, theirs in zip(sae(rows), program.module()(rows), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.slow
@NEEDS_KERNELS
def test_an_exported_sae_runs_in_a_process_that_knows_the_operators(x, tmp_path):
    sae = make()
    torch.export.save(torch.export.export(sae, (x,)), tmp_path / "sae.pt2")
    torch.save(x, tmp_path / "x.pt")
    program = (
        "import sys, torch, mfrlib.models.sae\n"
        "x = torch.load(sys.argv[1] + '/x.pt', weights_only=True)\n"
        "found = torch.export.load(sys.argv[1] + '/sae.pt2').module()(x)\n"
        "torch.save(found[0], sys.argv[1] + '/y.pt')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=PROJECT, timeout=300)
    assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), sae(x).reconstruction)


@NEEDS_KERNELS
@pytest.mark.parametrize("k", [[3, 3], [2, 5]])
@pytest.mark.parametrize("unit_rows", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_operators_keep_pytorch_s_rules(k, unit_rows, relu, x):
    """Shapes without data, no aliases, gradients registered: what `opcheck` looks at."""
    sae = make()
    x = x.requires_grad_()
    torch.library.opcheck(torch.ops.mfrlib.tied_topk.default, (x, sae.weight, sae.bias, k, unit_rows, relu))


def test_an_eager_call_does_not_go_through_the_operators(x, monkeypatch):
    def never(*_, **__):
        raise AssertionError("an operator was called")

    monkeypatch.setattr(operators, "tied_topk", never)
    make()(x)
    make().squared_error(x)


@NEEDS_KERNELS
def test_the_operator_itself_costs_next_to_nothing():
    sae = TopKSAE(2, 64, 512, 16)
    x, form = torch.randn(512, 64), {"unit_rows": True, "relu": False}

    def best(call):
        taken = []
        for _ in range(15):
            start = time.process_time()
            for _ in range(10):
                call(x, sae.weight, sae.bias, sae.k, **form)
            taken.append((time.process_time() - start) / 10)
        return min(taken)

    with torch.no_grad():
        direct, registered = best(sparse.tied_topk), best(operators.tied_topk)
    assert registered - direct < 5e-4  # seconds of the processor a call


@pytest.mark.slow
@NEEDS_KERNELS
def test_the_default_compiler_takes_it(x):
    sae = make()
    torch.testing.assert_close(torch.compile(sae, fullgraph=True)(x).reconstruction, sae(x).reconstruction)
    torch.testing.assert_close(
        torch.compile(copy.deepcopy(sae), fullgraph=True, dynamic=True)(x[:5]).values, sae(x[:5]).values
    )
