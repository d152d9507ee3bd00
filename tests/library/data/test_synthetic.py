import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mfrlib.config import ConfigError, key_fields
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.models.kernels import compiled

SMALL = SyntheticSpec(n_input_features=26, d_in=8, n_groups=4, n_active=3, decay=0.8)


def make(spec=SMALL, seed=0, batch_size=50, n_samples=1000):
    return SyntheticData(spec, seed, batch_size, n_samples)


def inclusion(odds, n_drawn):
    """Return each item's exact chance to be among the first arrivals of a race.

    Item i arrives after an exponential time of rate w_i; it is drawn if fewer than n_drawn others came before. The
    others that came by a time t are a Poisson-binomial number, by convolution; the time is integrated numerically.
    """
    odds = np.asarray(odds, dtype=float)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    u = (nodes + 1) / 2  # u = exp(-t mean(odds)) maps all times to (0, 1)
    t = -np.log(u) / odds.mean()
    found = []
    for i, own in enumerate(odds):
        fewer = np.zeros((len(t), n_drawn))
        fewer[:, 0] = 1
        for rate in np.delete(odds, i):
            came = (1 - np.exp(-rate * t))[:, None]
            fewer = fewer * (1 - came) + np.pad(fewer, ((0, 0), (1, 0)))[:, :-1] * came
        density = own * np.exp(-own * t) / (odds.mean() * u)
        found.append((weights / 2 * density * fewer.sum(1)).sum())
    return np.array(found)


def inclusion_by_enumeration(odds, n_drawn):
    """Return the same from every order in which items can be drawn, one after the other, odds renormalised."""
    found = np.zeros(len(odds))
    for order in itertools.permutations(range(len(odds)), n_drawn):
        chance, left = 1.0, sum(odds)
        for item in order:
            chance, left = chance * odds[item] / left, left - odds[item]
        found[list(order)] += chance
    return found


def test_the_oracle_agrees_with_enumeration():
    odds = [0.7**j for j in range(1, 8)]
    np.testing.assert_allclose(inclusion(odds, 3), inclusion_by_enumeration(odds, 3), atol=1e-6)
    assert inclusion(odds, 3).sum() == pytest.approx(3, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "n_active", "decay", "n"), [(43, 36, 0.99, 20_000), (42, 3, 0.99, 60_000), (6, 3, 0.5, 20_000)]
)
def test_inclusion_probabilities_are_those_of_draws_without_replacement(size, n_active, decay, n):
    spec = SyntheticSpec(n_input_features=size, d_in=2, n_groups=1, n_active=n_active, decay=decay)
    _, coefficients = make(spec).samples_and_coefficients(n)
    counts = (coefficients > 0).sum(0).numpy()
    odds = decay ** np.arange(1, size + 1)

    def largest_z(expected):
        return np.abs((counts - n * expected) / np.sqrt(n * expected * (1 - expected))).max()

    exact = inclusion(odds, n_active)
    assert largest_z(exact) < stats.norm.ppf(1 - 1e-5 / size)
    # The test can tell them from even draws, from draws along the reversed order, and from ∝ λ^j.
    assert largest_z(np.full(size, n_active / size)) > 8
    assert largest_z(exact[::-1]) > 8
    if decay == 0.5:
        assert largest_z(np.clip(n_active * odds / odds.sum(), 0.01, 0.99)) > 8


@settings(max_examples=25, deadline=None)
@given(
    n_groups=st.integers(1, 5),
    size=st.integers(3, 6),
    extra=st.integers(0, 4),
    n_active=st.integers(1, 3),
    every=st.booleans(),
    seed=st.integers(0, 10_000),
    bank=st.sampled_from([0, 400]),
    floor=st.booleans(),
)
def test_every_sample_is_a_combination_of_features_of_its_active_groups(
    n_groups, size, extra, n_active, every, seed, bank, floor
):
    chosen = n_groups if every else 1
    spec = SyntheticSpec(
        n_input_features=n_groups * size + extra % n_groups, d_in=2, n_groups=n_groups, n_active=n_active,
        n_active_groups=chosen, support_rows=bank, floor_groups=floor,
    )  # fmt: skip
    data = make(spec, seed)
    x, coefficients = data.samples_and_coefficients(40)
    active = coefficients > 0
    assert (active.sum(1) == chosen * n_active).all()
    in_groups = torch.stack([active[:, group].sum(1) for group in data.groups], dim=1)
    assert ((in_groups == 0) | (in_groups == n_active)).all()
    assert ((in_groups > 0).sum(1) == chosen).all()
    expected = coefficients.double() @ data.features.double()
    torch.testing.assert_close(x.double(), expected, rtol=0, atol=1e-5)


def test_the_paper_s_sizes():
    data = make(SyntheticSpec())
    assert data.features.shape == (512, 256)
    _, coefficients = data.samples_and_coefficients(200)
    assert ((coefficients > 0).sum(1) == 36).all()
    assert sorted({len(group) for group in data.groups}) == [42, 43]
    assert torch.equal(torch.cat(data.groups), torch.arange(512))


def test_floored_groups_leave_eight_features_never_active():
    data = make(SyntheticSpec(floor_groups=True))
    assert {len(group) for group in data.groups} == {42}
    assert torch.equal(torch.cat(data.groups), torch.arange(504))
    _, coefficients = data.samples_and_coefficients(500)
    assert not coefficients[:, 504:].any()
    assert coefficients[:, :504].any(0).all()


def test_groups_are_chosen_evenly_and_independently_of_the_features_drawn():
    data = make(replace(SMALL, n_active_groups=1))
    n = 20_000
    _, coefficients = data.samples_and_coefficients(n)
    counts = [int((coefficients[:, group] > 0).any(1).sum()) for group in data.groups]
    assert sum(counts) == n
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("support_rows", [0, 100])
def test_coefficients_are_uniform_and_uncorrelated(support_rows):
    spec = replace(SMALL, support_rows=support_rows, n_active_groups=4)
    _, coefficients = make(spec).samples_and_coefficients(5000)
    values = coefficients[coefficients > 0].double().numpy()
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    rows = np.sort(coefficients.numpy(), axis=1)[:, -12:]
    shuffled = np.random.default_rng(0).permuted(rows, axis=1)
    off = np.corrcoef(shuffled.T)[np.triu_indices(12, 1)]
    assert np.abs(off).max() < 5 / math.sqrt(5000)


def test_features_are_standard_normal_and_not_normalised():
    features = make(SyntheticSpec()).features
    assert stats.kstest(features.flatten().numpy(), "norm").pvalue > 1e-3
    assert features.norm(dim=1).std() > 0.3


def supports(coefficients, group):
    return {tuple(row) for row in (coefficients[:, group] > 0).int().tolist() if any(row)}


@pytest.mark.parametrize(("n_samples", "bank"), [(1, 1), (1_000_000, 1), (1_000_001, 2), (5_000_000, 5)])
def test_one_support_per_group_and_so_many_rows(n_samples, bank):
    spec = replace(SMALL, support_rows=1_000_000)
    data = make(spec, n_samples=n_samples)
    _, coefficients = data.samples_and_coefficients(3000)
    for number, group in enumerate(data.groups):
        stored = {tuple(row) for row in data.supports[number, :, : len(group)].int().tolist()}
        assert len(data.supports[number]) == bank
        assert supports(coefficients, group) == stored  # each of the bank is drawn, and nothing else
        assert len(stored) <= bank


def test_the_bank_is_one_for_all_steps_and_its_entries_are_drawn_evenly():
    spec = replace(SMALL, support_rows=250, n_active_groups=4)
    data = make(spec, n_samples=1000)
    first, second = (data.samples_and_coefficients(4000, step)[1] for step in (0, 1))
    for group in data.groups:
        assert supports(first, group) == supports(second, group)
    patterns = [tuple(row) for row in (first[:, data.groups[0]] > 0).int().tolist()]
    bank = [tuple(row) for row in data.supports[0, :, : len(data.groups[0])].int().tolist()]
    expected = {pattern: bank.count(pattern) * 1000 for pattern in bank}
    assert stats.chisquare([patterns.count(p) for p in expected], list(expected.values())).pvalue > 1e-4


def test_without_a_bank_supports_vary():
    data = make()
    _, coefficients = data.samples_and_coefficients(2000)
    assert all(len(supports(coefficients, group)) > 10 for group in data.groups)


@pytest.mark.parametrize("spec", [SMALL, replace(SMALL, support_rows=100), replace(SMALL, center=True)])
def test_a_batch_depends_on_its_step_only(spec):
    data, other = make(spec), make(spec)
    forward = [data.batch(step) for step in range(4)]
    list(other.held_out(2))
    other.samples_and_coefficients(7)
    backward = [other.batch(step) for step in reversed(range(4))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert forward[0].shape == (50, 8)
    assert forward[0].dtype == torch.float32


@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        replace(SMALL, n_active_groups=4),
        replace(SMALL, n_active_groups=4, n_active=1),
        SyntheticSpec(center=True),
    ],
)
def test_kernels_make_the_samples_of_the_plain_form(spec, monkeypatch):
    fast = make(spec, batch_size=1000).batch(3)  # more draws a shard than come in one block of the generator
    monkeypatch.setattr(compiled, "available", lambda: False)
    torch.testing.assert_close(fast, make(spec, batch_size=1000).batch(3))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": -1}, "seed: must be 0 or more"),
        ({"batch_size": 0}, "batch_size: must be 1"),
        ({"batch_size": "a"}, "int"),
    ],
)
def test_impossible_seeds_and_sizes_are_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        make(**given)


@pytest.mark.parametrize(
    "spec", [SMALL, replace(SMALL, n_active_groups=4, center=True), replace(SMALL, support_rows=10)]
)
@pytest.mark.parametrize("kernels", [True, False])
def test_defaults_of_the_caller_change_no_bit(spec, kernels, monkeypatch):
    """Another default type once had the kernels read doubles as floats."""
    if not kernels:
        monkeypatch.setattr(compiled, "available", lambda: False)

    def everything():
        data = make(spec)
        return [data.batch(3), *data.held_out(2, 20), *data.samples_and_coefficients(20), data.features]

    expected = everything()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = everything()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_steps_seeds_and_held_out_batches_differ():
    data = make()
    batches = [
        *(data.batch(step) for step in range(3)),
        *data.held_out(3, 50),
        *(make(seed=s).batch(0) for s in (1, 2)),
    ]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(batches, 2))
    rows = torch.cat(batches)
    assert len(rows.unique(dim=0)) == len(rows)
    assert not torch.equal(make(seed=0).features, make(seed=1).features)


def test_held_out_batches_are_the_same_for_every_batch_size_of_training():
    pairs = zip(make(batch_size=7).held_out(2), make(batch_size=50, n_samples=10**9).held_out(2), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_held_out_batches_follow_the_same_distribution():
    data = make(batch_size=20_000)
    train, (held_out,) = data.batch(0), data.held_out(1, 20_000)
    for column in range(8):
        assert stats.ks_2samp(train[:, column].numpy(), held_out[:, column].numpy()).pvalue > 1e-4


def test_centring_subtracts_the_mean_and_nothing_else():
    plain, centred = make(batch_size=20_000), make(replace(SMALL, center=True), batch_size=20_000)
    assert not plain.mean.any()
    difference = plain.batch(3) - centred.batch(3)
    torch.testing.assert_close(difference, centred.mean.expand_as(difference), rtol=0, atol=1e-5)
    x = centred.batch(0)
    assert plain.batch(0).mean(0).norm() > 0.3  # else there is nothing to centre
    assert (x.mean(0).abs() < 6 * x.std(0) / math.sqrt(20_000)).all()
    # the exact mean: each group a twelfth of the time, a feature's inclusion, half for the coefficient
    exact = sum(
        torch.from_numpy(inclusion(0.8 ** np.arange(1, len(group) + 1), 3)) @ centred.features[group].double()
        for group in centred.groups
    ) / (2 * 4)
    torch.testing.assert_close(centred.mean.double(), exact, rtol=0, atol=0.02)


def test_memory_does_not_grow_with_the_number_of_samples():
    def held(data):
        tensors = [*vars(data).values(), *data.groups]
        return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))

    assert held(make(n_samples=100)) == held(make(n_samples=10**12))
    released = SyntheticSpec(floor_groups=True, support_rows=1_000_000)
    assert held(make(released, n_samples=10**8)) < held(make(released, n_samples=1)) + 12 * 42 * 100


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("d_in", 26, "G must exceed d_in = 26"),
        ("n_input_features", 8, "G must exceed d_in = 8"),
        ("d_in", 0, "1 or more"),
        ("n_groups", 0, "1 or more"),
        ("n_groups", 27, "at most n_input_features"),
        ("n_active_groups", 0, "1 or more"),
        ("n_active_groups", 5, "1, or all n_groups = 4"),
        ("n_active_groups", 2, "1, or all n_groups = 4"),
        ("n_active", 0, "1 or more"),
        ("n_active", 7, "smallest group's 6"),
        ("decay", 0.0, "between 0 and 1"),
        ("decay", 1.0, "between 0 and 1"),
        ("decay", float("nan"), "between 0 and 1"),
        ("decay", 1e-6, r"λ\^7 not underflow"),
        ("support_rows", -1, "0 or more"),
    ],
)
def test_impossible_values_are_refused(field, value, words):
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **{field: value})


def test_every_field_is_part_of_a_run_s_key():
    assert key_fields(SyntheticSpec()) == {}
    assert set(key_fields(SMALL)) == {"n_input_features", "d_in", "n_groups", "n_active", "decay"}
