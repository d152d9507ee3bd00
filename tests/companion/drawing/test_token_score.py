"""How well a token alone predicts a feature."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from mfrbook.drawing.features import token_score
from mfrbook.drawing.features.token_score import token_auc
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.models.sae import TopKSAE

HOOK = "blocks.1.hook_resid_pre"


def one_hot(features, n):
    return csr_matrix(np.eye(n, dtype=bool)[features])


@pytest.fixture
def text():
    return np.random.default_rng(0).integers(0, 20, 4000)


def test_a_feature_of_one_token_is_predicted_whole(text):
    active = one_hot(np.where(text == 3, 0, 1), 3)
    assert token_auc(text, active)[:2].tolist() == [1.0, 1.0]


def test_a_feature_that_has_nothing_to_do_with_the_token_is_guessed(text):
    active = one_hot(np.random.default_rng(1).integers(0, 4, 4000), 4)
    assert np.abs(token_auc(text, active) - 0.5).max() < 0.06


def test_it_is_the_share_of_pairs_that_are_ordered_right(text):
    draws = np.random.default_rng(2)
    on = draws.random(4000) < np.where(text < 5, 0.6, 0.1)
    found = token_auc(text, csr_matrix(on[:, None]))[0]
    half = 2000
    share = np.array([on[:half][text[:half] == token].mean() for token in range(20)])[text[half:]]
    a, b = share[on[half:]], share[~on[half:]]
    expected = ((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_feature_that_is_hardly_ever_active_or_always_has_no_score(text):
    active = np.ones((4000, 2), dtype=bool)
    active[:, 0] = False
    active[2000:2009, 0] = True
    assert np.isnan(token_auc(text, csr_matrix(active))).all()


@pytest.mark.parametrize("kind", ["relu", "topk"])
def test_an_sae_is_scored_by_where_its_features_are_active(tiny_lm, kind):
    draws = torch.Generator().manual_seed(0)
    sae = (
        ReLUSAE(2, tiny_lm.d_model, 60, generator=draws)
        if kind == "relu"
        else TopKSAE(2, tiny_lm.d_model, 60, k=[4, 9], generator=draws)
    )
    batches = [torch.randint(40, (4, 50), generator=draws) for _ in range(3)]
    found = token_score.scores(sae, 1, token_score.read(tiny_lm, HOOK, batches, skip=1))
    x = torch.cat([tiny_lm.activations(one, [HOOK])[HOOK][:, 1:].flatten(0, 1) for one in batches])
    active = sae.encode(x)[1] != 0
    assert active.any(1).all()
    if kind == "topk":
        assert active.sum(1).max() == 9
    expected = token_auc(torch.cat([one[:, 1:].flatten() for one in batches]).numpy(), csr_matrix(active.numpy()))
    np.testing.assert_array_equal(found, expected)
    assert len(token_score.known(found)) > 10


def test_a_table_counts_what_has_a_score():
    cells = token_score.row([np.array([0.5, 0.97, 0.99]), np.array([0.6, 0.8, 0.96])])
    assert [cell.middle for cell in cells.values()] == pytest.approx([3, (0.97 + 0.8) / 2, 0.5])
