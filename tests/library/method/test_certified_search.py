"""The searches in bytes and in bfloat16 find what one in float32 finds: entries closer than rounding apart, the same features."""

import os
import subprocess
import sys

import pytest
import torch

from mfrlib import TopKSAE
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.models import sparse
from mfrlib.models.kernels import compiled, native, tied
from mfrlib.training.config import TrainingConfig
from mfrlib.training.state import TrainingState

certified = pytest.mark.skipif(
    not compiled.certifies(), reason="no products in few bits here: there is one search only"
)
both = pytest.mark.parametrize("bytes", [True, False], ids=["bytes", "bfloat16"])
DRAWS = 7


def normal(*shape, seed=DRAWS):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def search(x, weight, bias, k, bytes=False):
    """Return values, indices and the rows left without a certificate."""
    values, indices = torch.full((len(x), k), torch.nan), torch.full((len(x), k), -1)
    left = native.search(x, weight, bias, native.pack(weight, bytes), values, indices)
    return values, indices, left


def check(x, weight, bias, k, bytes=False, n_left=0):
    """Hold a search to the product in double precision: no feature left out exceeds one chosen by more than rounding does."""
    values, indices, left = search(x, weight, bias, k, bytes)
    assert n_left is None or len(left) == n_left
    kept = torch.ones(len(x), dtype=torch.bool)
    kept[left] = False
    values, indices = values[kept].double(), indices[kept]
    wide, width = x[kept].double(), weight.double()
    exact = wide @ width.T + bias.double()
    # What a sum in float32 may lose, with every entry at its largest; and what underflows.
    rounding = 2**-24 * (weight.shape[1] + 2) * (wide.abs() @ width.abs().T + bias.double().abs()) + 2.0**-120
    assert all(len(set(row)) == k for row in indices.tolist())
    assert ((values - exact.gather(1, indices)).abs() <= rounding.gather(1, indices)).all()
    least = (exact - rounding).scatter(1, indices, -torch.inf).max(1).values  # of those left out, the largest for sure
    assert (least <= (exact + rounding).gather(1, indices).min(1).values).all()
    return indices


CASES = {
    "random": lambda: (normal(300, 70), normal(600, 70, seed=1)),
    "of odd width": lambda: (normal(30, 33), normal(257, 33, seed=1)),
    "narrow": lambda: (normal(30, 1), normal(64, 1, seed=1)),
    "one row": lambda: (normal(1, 64), normal(128, 64, seed=1)),
    "tiny": lambda: (normal(50, 64) * 1e-18, normal(400, 64, seed=1) * 1e-17),
    "huge": lambda: (normal(50, 64) * 1e17, normal(400, 64, seed=1) * 1e15),
    "rows of unlike scale": lambda: (
        normal(60, 64) * 10.0 ** torch.arange(-15, 15).repeat(2)[:, None],
        normal(400, 64, seed=1) * 10.0 ** (normal(400, 1, seed=2)),
    ),
    "denormal": lambda: (normal(50, 64) * 1e-39, normal(400, 64, seed=1)),
    "denormal columns": lambda: (
        normal(50, 64) * torch.where(torch.arange(64) % 3 == 0, 1.0, 1e-40),
        normal(400, 64, seed=1),
    ),
    "exact in bfloat16": lambda: (normal(50, 64).bfloat16().float(), normal(400, 64, seed=1).bfloat16().float()),
    "zero rows": lambda: (
        normal(50, 64) * (torch.arange(50) % 3 > 0)[:, None],
        normal(400, 64, seed=1) * (torch.arange(400) % 2)[:, None],
    ),
}  # fmt: skip
# Rows whose products with all features are equal, or lost in underflow. Bytes leave what is smaller than 1e-10, and with more than a
# sixth all that comes after.
WITHOUT = {
    False: {"denormal": (50, 50), "zero rows": (17, 0)},
    True: {"denormal": (50, 50), "tiny": (50, 50), "zero rows": (None, 0), "rows of unlike scale": (None, None)},
}  # fmt: skip


@certified
@both
@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("name", CASES)
def test_no_feature_is_missed(name, k, bytes):
    x, weight = CASES[name]()
    scale = float(x.norm(dim=1).mean() * weight.norm(dim=1).mean())
    alone, with_bias = WITHOUT[bytes].get(name, (0, 0))
    check(x, weight, torch.zeros(len(weight)), k, bytes, n_left=alone)
    check(x, weight, 0.1 * scale * normal(len(weight), seed=3), k, bytes, n_left=with_bias)


def in_bytes(rows):
    step = rows.abs().max(1, keepdim=True).values / 127
    return (rows / step).round() * step


@certified
@both
def test_few_bits_alone_would_have_missed_some(bytes):
    """Else the tests above could not tell the certificate from its absence."""
    x, weight = CASES["random"]()
    rough_x, rough_weight = (in_bytes(one) if bytes else one.bfloat16().float() for one in (x, weight))
    rough = (rough_x @ rough_weight.T).topk(9).indices.sort(1).values
    found = check(x, weight, torch.zeros(len(weight)), 9, bytes).sort(1).values
    assert 0 < (rough != found).any(1).sum() < len(x)


@certified
def test_rows_with_a_large_number_are_left_by_bytes_and_found_in_bfloat16():
    """Seven rows of eight have one number far larger than the others: bytes cannot tell these apart, bfloat16 can."""
    x, weight = normal(96, 64), normal(400, 64, seed=1)
    x[:, 0] += 80.0 * (torch.arange(96) % 8 > 0)
    weight[:, 0] = 0
    bias = torch.zeros(400)
    assert len(search(x, weight, bias, 9, bytes=True)[2]) >= 84
    check(x, weight, bias, 9)


@certified
@pytest.mark.parametrize("far", [0.0, 100.0])
def test_each_way_finds_the_same_bits(monkeypatch, far):
    """Some rows have an outlier, and go from bytes to bfloat16; alone, with the others' gradients, and with none left."""
    x, weight, bias = normal(200, 64), normal(2, 400, 64, seed=1), normal(2, 400, seed=2)
    x[::9, 5] += far
    weight[:, :, 5] = 0
    left = search(x, weight[0], bias[0], 9, bytes=True)[2]
    assert (len(left) > 0) == (far > 0)
    assert not len(search(x, weight[0], bias[0], 9)[2])
    found = []
    for ways in ((True, False), (False,), (True,)):
        monkeypatch.setattr(tied, "CERTIFIED", ways)
        leaf = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        error = sparse.squared_error(x, *leaf, [9, 9], unit_rows=True, relu=True)
        codes = sparse.tied_topk(x, *leaf, [9, 9], unit_rows=True, relu=True)
        found.append([*error, *codes, *torch.autograd.grad(error.error.sum(), leaf)])
    for one, other, rough in zip(*found, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(rough, one, rtol=1e-3, atol=1e-3)  # where float32's product stands for bfloat16's


@certified
@both
def test_what_the_sums_themselves_round_away_is_in_the_bound(bytes):
    """All numbers are exact in bfloat16. In its one running sum 2^25 swallows every half until -2^25 comes; float32's sixteen do not mix them."""
    weight, x = torch.zeros(128, 64), torch.ones(1, 64)
    weight[70] = 0.5
    weight[70, 0], weight[70, 32] = 2.0**25, -(2.0**25)  # exactly 31; in bfloat16's sum 15.5
    weight[3] = 0.3125  # exactly 20
    bias = torch.full((128,), -1e5)  # of features that come close to neither
    bias[[3, 70]] = 0
    values, indices, left = search(x, weight, bias, 1, bytes)
    assert (values.item(), indices.item(), len(left)) == (31.0, 70, 0)


@certified
@both
def test_among_equals_the_first_is_taken(bytes):
    """Duplicated rows have the same product to the bit, wherever they stand."""
    x, weight = normal(40, 64), normal(100, 64, seed=1)
    indices = check(x, weight.repeat(4, 1), torch.zeros(400), 6, bytes)
    single = (x @ weight.T).topk(2).indices
    for row, (first, second) in zip(indices.tolist(), single.tolist(), strict=True):
        assert sorted(row) == sorted([first, first + 100, first + 200, first + 300, second, second + 100])


@certified
def test_a_common_column_that_hides_all_others_is_left_to_float32():
    """Rounding of the common part exceeds what sets features apart: nothing is certain, and the result is float32's."""
    x, weight = normal(40, 64), normal(400, 64, seed=1)
    x[:, 0], weight[:, 0] = 1000, 1000
    bias = torch.zeros(400)
    assert [len(search(x, weight, bias, 9, bytes)[2]) for bytes in (True, False)] == [40, 40]
    codes = sparse.tied_topk(x, weight[None], bias[None], [9], unit_rows=True, relu=False)
    expected = torch.addmm(bias, x, weight.T).topk(9).indices
    assert torch.equal(codes.indices[0].sort(1).values, expected.sort(1).values)


@certified
@pytest.mark.parametrize("where", ["x", "weight", "bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3.3e38])
def test_what_is_not_finite_gets_no_certificate_and_the_result_of_float32(monkeypatch, value, where):
    arrays = {"x": normal(40, 64), "weight": normal(400, 64, seed=1), "bias": normal(400, seed=2)}
    arrays[where].view(-1)[37] = value
    for bytes in (True, False):
        assert len(search(*arrays.values(), 9, bytes)[2]) == (1 if where == "x" else 40)
    arguments = [arrays["x"], arrays["weight"][None].requires_grad_(), arrays["bias"][None].requires_grad_(), [9]]
    found = sparse.squared_error(*arguments, unit_rows=True, relu=False)
    monkeypatch.setattr(compiled, "certifies", lambda: False)
    expected = sparse.squared_error(*arguments, unit_rows=True, relu=False)
    torch.testing.assert_close(found.values, expected.values, equal_nan=True)
    assert torch.equal(found.indices[:, 0], expected.indices[:, 0])
    torch.testing.assert_close(found.error, expected.error, equal_nan=True)


@certified
@both
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_company_change_no_bit(threads, bytes):
    """Whichever rows share a tile, and however many threads take them."""
    x, weight, bias = normal(301, 70), normal(600, 70, seed=1), normal(600, seed=2)
    values, indices, _ = search(x, weight, bias, 9, bytes)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        some = search(x[40:173].clone(), weight, bias, 9, bytes)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(some[0], values[40:173])
    assert torch.equal(some[1], indices[40:173])


@certified
@both
@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_nothing_is_missed_as_a_dictionary_is_trained(rate, bytes):
    source = SyntheticData(SyntheticSpec(n_input_features=128, d_in=64, n_groups=8, n_active=12), 0, 400, 10**5)
    config = TrainingConfig(n_saes=1, n_features=256, k=12, batch_size=400, learning_rate=rate, device="cpu")
    sae = TopKSAE(1, 64, 256, 12, generator=torch.Generator().manual_seed(0))
    state = TrainingState(sae, config)
    for step in range(150):
        x = source.batch(step)
        if step % 30 == 29:
            check(x, sae.weight[0].detach(), sae.bias[0].detach(), 12, bytes)
        total = sae.squared_error(x, 1 / len(x)).error.sum()
        state.optimizer_step(torch.autograd.grad(total, [sae.weight, sae.bias]), config.learning_rate)


PROGRAM = """
import torch
from mfrlib import TopKSAE, mutual_feature_penalty
from mfrlib.models.kernels import compiled, native
sae = TopKSAE(2, 32, 128, 5, generator=torch.Generator().manual_seed(0))
x = torch.randn(200, 32, generator=torch.Generator().manual_seed(1))
output = sae(x)
total = output.reconstruction.square().sum() + mutual_feature_penalty(sae.weight)
total.backward()
print(compiled.available(), compiled.certifies(), float(total.detach()), float(sae.weight.grad.square().sum()), output.indices.sum().item())
"""


def outcome(tmp_path, **environment):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), **environment}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True, timeout=120
    )  # fmt: skip
    available, certifies, *numbers = done.stdout.split()
    return available == "True", certifies == "True", [float(one) for one in numbers]


@pytest.mark.slow
@certified
def test_without_products_in_few_bits_or_without_a_compiler_results_are_the_same(tmp_path):
    """A compiler that does not know them builds the rest."""
    old = tmp_path / "cc"
    old.write_text('#!/bin/sh\ncase "$*" in *bf16*) exit 1;; esac\nexec cc "$@"\n')
    old.chmod(0o755)
    *state, expected = outcome(tmp_path / "a")
    assert state == [True, True]
    ways = {
        "fp32": ({"MFR_NATIVE": "fp32"}, [True, False]),
        "old": ({"CC": str(old)}, [True, False]),
        "none": ({"MFR_NATIVE": "0"}, [False, False]),
    }
    for name, (environment, state) in ways.items():
        *found, numbers = outcome(tmp_path / name, **environment)
        assert found == state, name
        assert numbers == pytest.approx(expected, rel=1e-5), name
