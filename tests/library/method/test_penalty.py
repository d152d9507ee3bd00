import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from mfrlib import TopKSAE, mmcs, mutual_feature_penalty
from mfrlib.method.penalty import calibrated_alpha, warmup
from mfrlib.models.objectives import reconstruction_loss


def stack(n_saes=3, n_features=7, d_in=5, seed=0, dtype=torch.float64):
    return torch.randn(n_saes, n_features, d_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


def by_the_formula(weight, matching="max", direction="one-way"):
    """Return the penalty with loops and a dense table of cosines that gradients flow through."""
    total, n_pairs, n_saes = 0.0, 0, len(weight)
    if matching == "hungarian":  # symmetric by itself
        direction = "one-way"
    kept = {"one-way": lambda i, j: i < j, "symmetric": lambda i, j: i != j, "reversed": lambda i, j: i > j}[direction]
    pairs = [(i, j) for i in range(n_saes) for j in range(n_saes) if kept(i, j)]
    for i, j in pairs:
        rows, others = weight[i], weight[j]
        table = rows @ others.T / (rows.norm(dim=1)[:, None] * others.norm(dim=1)[None])
        if matching == "max":
            mean = table.max(dim=1).values.mean()
        else:
            mean = table[linear_sum_assignment(-table.detach().numpy())].mean()
        total, n_pairs = total + (1 - mean), n_pairs + 1
    return total / n_pairs


KINDS = list(itertools.product(["max", "hungarian"], ["one-way", "symmetric", "reversed"]))


@pytest.mark.parametrize(("matching", "direction"), KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n_saes=st.integers(2, 4))
def test_value_and_gradient_are_those_of_the_dense_formula(matching, direction, seed, n_saes):
    weight, plain = stack(n_saes, seed=seed).requires_grad_(), stack(n_saes, seed=seed).requires_grad_()
    value, expected = mutual_feature_penalty(weight, matching, direction), by_the_formula(plain, matching, direction)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    value.backward()
    expected.backward()
    torch.testing.assert_close(weight.grad, plain.grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("matching", "direction"), KINDS)
def test_single_precision_gradient_differs_by_rounding_only(matching, direction):
    weight = stack(3, 64, 32, dtype=torch.float32).requires_grad_()
    plain = weight.detach().double().requires_grad_()
    mutual_feature_penalty(weight, matching, direction).backward()
    by_the_formula(plain, matching, direction).backward()
    assert (weight.grad - plain.grad).norm() <= 1e-5 * plain.grad.norm()


def test_it_is_the_mean_over_pairs_of_one_minus_mmcs():
    weight = stack(4)
    expected = sum(1 - mmcs(weight[i], weight[j]) for i, j in itertools.combinations(range(4), 2)) / 6
    assert mutual_feature_penalty(weight).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("matching", "direction"), KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_permuting_scaling_and_rotating_rows_changes_nothing(matching, direction, seed):
    draws = torch.Generator().manual_seed(seed)
    weight = stack(seed=seed)
    value = mutual_feature_penalty(weight, matching, direction).item()
    shuffled = torch.stack([one[torch.randperm(7, generator=draws)] for one in weight])
    scaled = weight * (torch.rand(3, 7, 1, generator=draws) * 5 + 0.1)
    rotated = weight @ torch.linalg.qr(stack(1, 5, 5, seed)[0]).Q
    for other in (shuffled, scaled, rotated):
        assert mutual_feature_penalty(other, matching, direction).item() == pytest.approx(value, abs=1e-12)


def test_equal_dictionaries_cost_nothing_and_opposite_ones_two():
    weight = stack(1)
    assert mutual_feature_penalty(weight.repeat(3, 1, 1)).item() == pytest.approx(0, abs=1e-12)
    one = torch.ones(1, 1, 4)
    assert mutual_feature_penalty(torch.cat([one, -one])).item() == pytest.approx(2)


def test_one_way_looks_from_the_first_sae_only():
    """All rows of SAE 1 on one row of SAE 2 cost nothing one way; the other way three of four rows are missed."""
    weight = torch.stack([torch.eye(4)[[0, 0, 0, 0]], torch.eye(4)])
    assert mutual_feature_penalty(weight) == 0
    assert mutual_feature_penalty(weight.flip(0)) == 0.75
    assert mutual_feature_penalty(weight, "max", "symmetric") == 0.375
    assert mutual_feature_penalty(weight, "hungarian") == 0.75
    assert mutual_feature_penalty(weight, "hungarian", "symmetric") == 0.75


def test_both_saes_of_a_pair_get_a_gradient():
    weight = stack(2).requires_grad_()
    mutual_feature_penalty(weight).backward()
    assert (weight.grad.flatten(1).norm(dim=1) > 0).all()


def test_each_sae_gets_the_gradient_of_its_own_reconstruction_and_of_the_whole_penalty():
    alpha, x = 3.0, stack(1, 9, 5, seed=4)[0]
    sae = TopKSAE(3, 5, 7, 2, generator=torch.Generator().manual_seed(0)).double()

    def gradient(loss):
        return torch.autograd.grad(loss, sae.weight)[0]

    together = gradient(
        reconstruction_loss(sae(x).reconstruction, x).sum() + alpha * mutual_feature_penalty(sae.weight)
    )
    penalty = gradient(mutual_feature_penalty(sae.weight))
    for number in range(3):
        own = gradient(reconstruction_loss(sae(x).reconstruction, x)[number])
        assert not own[[i for i in range(3) if i != number]].any()
        torch.testing.assert_close(together[number], (own + alpha * penalty)[number], rtol=1e-10, atol=1e-13)


def test_adding_an_sae_leaves_the_reconstruction_gradient_of_the_others():
    x = stack(1, 9, 5, seed=4)[0]
    small = TopKSAE(2, 5, 7, 2, generator=torch.Generator().manual_seed(0)).double()
    large = TopKSAE(3, 5, 7, 2, generator=torch.Generator().manual_seed(0)).double()
    for sae in (small, large):
        reconstruction_loss(sae(x).reconstruction, x).sum().backward()
    torch.testing.assert_close(large.weight.grad[:2], small.weight.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 7, 5), (7, 5), (2, 2, 7, 5)])
def test_anything_but_a_stack_of_two_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        mutual_feature_penalty(torch.zeros(shape))


def test_an_array_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"weight: a tensor .*, given ndarray"):
        mutual_feature_penalty(torch.zeros(2, 7, 5).numpy())


@pytest.mark.parametrize("weight", [torch.zeros(2, 0, 5), torch.zeros(2, 7, 0), torch.ones(2, 7, 5).long()])
def test_dictionaries_without_features_or_fractions_are_refused(weight):
    with pytest.raises(ValueError, match=r"weight: .*of floating point, given torch\."):
        mutual_feature_penalty(weight)


def test_functional_gradients_are_autograd_s():
    weight = stack(dtype=torch.float32).requires_grad_()
    found = torch.func.grad(mutual_feature_penalty)(weight)
    torch.testing.assert_close(found, torch.autograd.grad(mutual_feature_penalty(weight), weight)[0])


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="'nearest'"):
        mutual_feature_penalty(stack(), "nearest")
    with pytest.raises(ValueError, match="'both'"):
        mutual_feature_penalty(stack(), "max", "both")


@pytest.mark.parametrize("part", [(5, 2), (2, 2), (-1, 2), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(part):
    with pytest.raises(ValueError, match=r"part: number and count of parts, .*given \("):
        mutual_feature_penalty(stack(), part=part)


@pytest.mark.parametrize("n_steps", [1, 2, 7, 100])
def test_warmup_rises_from_zero_to_one(n_steps):
    factors = [warmup(step, n_steps) for step in range(n_steps + 3)]
    assert factors[0] == 0
    assert factors[n_steps:] == [1.0] * 3
    assert all(a < b for a, b in itertools.pairwise(factors[: n_steps + 1]))
    # A cosine is symmetric about its middle.
    assert all(factors[i] + factors[n_steps - i] == pytest.approx(1) for i in range(n_steps + 1))


def test_no_warmup_is_the_whole_penalty_at_once():
    assert warmup(0, 0) == 1.0


def test_warmup_is_a_cosine():
    assert warmup(25, 100) == pytest.approx(0.5 - 0.5**1.5)


def test_calibration_rules():
    assert calibrated_alpha("balance", 6.0, 0.5) * 0.5 == 6.0
    assert calibrated_alpha("loss", 6.0, 0.5) == 6.0
    assert calibrated_alpha("loss", 6.0, 0.0) == 6.0
    with pytest.raises(ValueError, match=r"differ at the start.*0\.0"):
        calibrated_alpha("balance", 6.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_penalised_as_single_with_rows_of_zeros_too(dtype):
    weight = stack(dtype=dtype)
    weight[0, 2] = 0
    found, gradient = torch.func.grad_and_value(mutual_feature_penalty)(weight)[::-1]
    assert found == mutual_feature_penalty(weight.float())
    assert gradient.isfinite().all()
    assert gradient.dtype == dtype
