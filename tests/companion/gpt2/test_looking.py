"""How well a token alone predicts a feature."""

import numpy as np
import pytest

from mfrbook.chapters.gpt2.smollm2.looking import token_auc


@pytest.fixture
def text():
    return np.random.default_rng(0).integers(0, 20, 4000)


def test_a_feature_of_one_token_is_predicted_whole(text):
    indices = np.where(text == 3, 0, 1)[:, None]
    assert token_auc(text, indices, 3)[:2].tolist() == [1.0, 1.0]


def test_a_feature_that_has_nothing_to_do_with_the_token_is_guessed(text):
    indices = np.random.default_rng(1).integers(0, 4, (4000, 1))
    assert np.abs(token_auc(text, indices, 4) - 0.5).max() < 0.06


def test_it_is_the_share_of_pairs_that_are_ordered_right(text):
    draws = np.random.default_rng(2)
    on = draws.random(4000) < np.where(text < 5, 0.6, 0.1)
    found = token_auc(text, np.where(on, 0, 1)[:, None], 2)[0]
    half = 2000
    share = np.array([on[:half][text[:half] == token].mean() for token in range(20)])[text[half:]]
    a, b = share[on[half:]], share[~on[half:]]
    expected = ((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_feature_that_is_hardly_ever_active_has_no_score(text):
    indices = np.ones((4000, 1), dtype=int)
    indices[2000:2009] = 0
    assert np.isnan(token_auc(text, indices, 2)[0])
