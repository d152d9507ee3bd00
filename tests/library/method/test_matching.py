"""Matches kept from step to step are those of a new search, to the bit, whatever happens to the weights between."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from mfrlib import mutual_feature_penalty
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.method.matching import Matches
from mfrlib.method.penalty import warmup
from mfrlib.method.similarity import best_match
from mfrlib.models.kernels import compiled
from mfrlib.randomness import generator
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import train
from mfrlib.training.state import TrainingState

pytestmark = pytest.mark.skipif(not compiled.certifies(), reason="no bfloat16 products here: every call is a search")
PAIRS = [(0, 1), (0, 2), (2, 1)]


def normal(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matched(matches, weight, pairs=PAIRS):
    matches.update(weight, torch.linalg.vector_norm(weight, dim=-1).clamp_(min=1e-12))
    return matches.rows(pairs)


def check(matches, weight, pairs=PAIRS):
    """Hold kept matches to those of a new search, and these to the product in double precision."""
    found, fresh = matched(matches, weight, pairs), matched(Matches(), weight, pairs)
    assert torch.equal(found, fresh)
    for (i, j), rows in zip(pairs, found, strict=True):
        cosine = normalize(weight[i].double(), dim=1) @ normalize(weight[j].double(), dim=1).T
        assert (cosine.gather(1, rows[:, None])[:, 0] >= cosine.max(1).values - 1e-6).all()


def test_a_search_finds_what_float32_finds():
    weight = normal(3, 200, 40)
    found = matched(Matches(), weight)
    for (i, j), rows in zip(PAIRS, found, strict=True):
        assert torch.equal(rows, best_match(weight[i], weight[j]).row)


def test_among_equals_the_first_is_the_match():
    weight = normal(3, 50, 40).repeat(1, 4, 1)
    matches = Matches()
    for _ in range(2):
        assert (matched(matches, weight) < 50).all()


def test_among_many_rows_closer_than_bfloat16_tells_the_nearest_is_found():
    weight = normal(3, 10, 40).repeat(1, 20, 1) + 1e-4 * normal(3, 200, 40, seed=4)
    matches = Matches()
    check(matches, weight)
    check(matches, weight + 1e-6 * normal(3, 200, 40, seed=5))


def test_rows_that_did_not_move_are_not_searched_again():
    weight, matches = normal(3, 200, 40), Matches()
    check(matches, weight)
    assert matches.searched == matches.asked == 600
    check(matches, weight)
    assert matches.searched == 600
    assert matches.asked == 1200


def test_a_row_that_arrives_from_afar_is_found():
    weight, matches = normal(3, 200, 40), Matches()
    check(matches, weight)
    weight[1, 77] = weight[0, 5] * 3
    check(matches, weight)
    assert matched(matches, weight)[0, 5] == 77


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 70), st.integers(1, 40), st.lists(st.sampled_from(
    ["still", "creep", "walk", "leap", "duplicate", "swap", "one", "zero", "scale", "again"]), min_size=1, max_size=8))  # fmt: skip
def test_kept_matches_are_those_of_a_new_search(seed, n_features, d_in, moves):
    draws = torch.Generator().manual_seed(seed)
    weight, matches = torch.randn(3, n_features, d_in, generator=draws), Matches()
    check(matches, weight)
    for move in moves:
        noise = torch.randn(weight.shape, generator=draws)
        row, other = (int(one) for one in torch.randint(n_features, (2,), generator=draws))
        if move in ("creep", "walk", "leap"):
            weight = weight + noise * {"creep": 1e-6, "walk": 1e-2, "leap": 1.0}[move]
        elif move == "duplicate":
            weight = weight.clone()
            weight[1, row] = weight[1, other]
            weight[2] = weight[0]
        elif move == "swap":
            weight = weight[[1, 0, 2]]
        elif move == "one":
            weight = weight.clone()
            weight[:, row] = noise[:, row]
        elif move == "zero":
            weight = weight.clone()
            weight[1, row] = 0
        elif move == "scale":
            weight = weight * torch.exp(5 * noise[..., :1])
        check(matches, weight)
        if move == "again":
            check(matches, weight)


@pytest.mark.parametrize("seed", [0, 1])
def test_over_a_training_with_re_initialisations(seed):
    source = SyntheticData(SyntheticSpec(n_input_features=128, d_in=64, n_groups=8, n_active=12), seed, 200, 10**5)
    config = TrainingConfig(seed=seed, n_saes=3, n_features=160, k=(8, 12, 16), batch_size=200, alpha=30.0,
                            learning_rate=3e-3, direction="symmetric", device="cpu")  # fmt: skip
    sae = config.new_stack(64, generator(seed, 1, 0))
    state = TrainingState(sae, config)
    pairs, late = [(i, j) for i in range(3) for j in range(3) if i != j], (0, 0)
    for step in range(300):
        if step in (120, 150):
            state.reinitializer.events.append((step, 1))
            state.reinitialize(1)
        if step % 7 == 0:
            with torch.no_grad():  # as for a record
                assert torch.equal(state.penalty(), mutual_feature_penalty(sae.weight, direction="symmetric"))
        if step == 250:
            late = state.matches.asked, state.matches.searched
        x = source.batch(step)
        penalty = state.penalty()
        fresh = mutual_feature_penalty(sae.weight, direction="symmetric")
        gradients = [torch.autograd.grad(one, sae.weight, retain_graph=True)[0] for one in (penalty, fresh)]
        assert torch.equal(penalty, fresh)
        assert torch.equal(*gradients)
        if step % 25 == 0:
            check(state.matches, sae.weight.detach(), pairs)
        total = sae.squared_error(x, 1 / len(x)).error.sum() + 30 * warmup(step, 50) * penalty
        state.optimizer_step(torch.autograd.grad(total, [sae.weight, sae.bias]), config.learning_rate)
    asked, searched = (
        now - then for now, then in zip((state.matches.asked, state.matches.searched), late, strict=True)
    )
    assert searched < 0.5 * asked  # else nothing is tested


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    weight = normal(3, 200, 40)
    expected = mutual_feature_penalty(weight.requires_grad_())
    (gradient,) = torch.autograd.grad(expected, weight)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = mutual_feature_penalty(weight)
        assert torch.equal(torch.autograd.grad(found, weight)[0], gradient)
    finally:
        torch.set_num_threads(before)


def test_nan_reaches_the_penalty_and_does_not_stay():
    """The step after a NaN is not taken, but a search that has seen one must find what a new one does."""
    weight, matches = normal(3, 60, 40), Matches()
    poisoned = weight.clone()
    poisoned[1, 7, 3] = float("nan")
    for one in (weight, poisoned, weight, weight):
        value = mutual_feature_penalty(one, matches=matches)
        assert value.isnan().item() == bool(one.isnan().any())
    check(matches, weight, [(0, 1), (0, 2), (1, 2)])


def test_a_run_taken_up_again_has_the_bits_of_one_never_stopped(tmp_path):
    """What is kept of matches is not saved: the second half starts without."""
    source = SyntheticData(SyntheticSpec(n_input_features=128, d_in=64, n_groups=8, n_active=12), 0, 200, 10**5)
    config = TrainingConfig(n_saes=3, n_features=160, k=12, batch_size=200, alpha=10.0, learning_rate=3e-3,
                            reinit="window", reinit_threshold=1.2, reinit_window=20, steps=120,
                            checkpoint_every=50, device="cpu")  # fmt: skip
    whole = train(config, source, folder=tmp_path / "whole", progress=False)

    class Power:
        d_in, id = source.d_in, source.id

        def batch(self, step):
            if step == 77:
                raise KeyboardInterrupt
            return source.batch(step)

    with pytest.raises(KeyboardInterrupt):
        train(config, Power(), folder=tmp_path / "cut", progress=False)
    cut = train(config, source, folder=tmp_path / "cut", progress=False)
    assert torch.equal(cut.sae.weight, whole.sae.weight)
    assert cut.metrics == whole.metrics
