"""A language model with SAE outputs in place of an activation."""

import copy

import numpy as np
import pytest
import torch

from mfrlib.config import ConfigError
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.evaluation import REFERENCES, insertion_losses, loss_recovered
from mfrlib.language_models.language_model import LanguageModelError, next_token_loss
from mfrlib.models.sae import TopKSAE

HOOK = "blocks.0.hook_mlp_out"


@pytest.fixture(scope="module")
def sequences(small_lm):
    tokens = np.random.default_rng(0).integers(small_lm.vocabulary, size=(5, 12))
    tokens[:, 0] = small_lm.bos
    return Sequences(tokens.astype(np.uint16), "test", True, 5)


def losses(model, sequences, sae=None, mean=None, **options):
    sae = sae or TopKSAE(2, model.d_model, 40, (1, 3), generator=torch.Generator().manual_seed(0))
    mean = torch.zeros(model.d_model) if mean is None else mean
    return insertion_losses(model, sae, sequences, HOOK, mean, **{"skip": 1, **options})


def test_a_perfect_sae_changes_nothing(small_lm, sequences):
    width = small_lm.d_model
    found = losses(small_lm, sequences, TopKSAE(2, width, width, width))  # orthonormal, and nothing is cut
    np.testing.assert_allclose(found["ce"], np.stack([found["ce_unmodified"]] * 2), atol=1e-5)


def test_an_sae_that_gives_nothing_is_zero_ablation(small_lm, sequences):
    sae = TopKSAE(1, small_lm.d_model, 20, 3, activation="relu")
    with torch.no_grad():
        sae.bias.fill_(-1e6)
    found = losses(small_lm, sequences, sae)
    np.testing.assert_array_equal(found["ce"][0], found["ce_zero"])


def test_ablation_with_a_mean_of_zero_is_zero_ablation(small_lm, sequences):
    found = losses(small_lm, sequences)
    np.testing.assert_array_equal(found["ce_mean"], found["ce_zero"])
    moved = losses(small_lm, sequences, mean=torch.linspace(-1, 1, small_lm.d_model))
    assert (moved["ce_mean"] != moved["ce_zero"]).all()


def test_what_is_known_without_saes_is_not_computed_again(small_lm, sequences, monkeypatch):
    whole = losses(small_lm, sequences)
    passes = []
    run = type(small_lm).logits_with
    monkeypatch.setattr(type(small_lm), "logits_with", lambda *given: passes.append(1) or run(*given))
    again = losses(small_lm, sequences, known={name: whole[name] for name in REFERENCES})
    assert len(passes) == 2, "one for each SAE"
    for name, values in whole.items():
        np.testing.assert_array_equal(again[name], values)


def test_each_loss_is_that_of_the_model_with_the_output_put_in(small_lm, sequences):
    sae = TopKSAE(2, small_lm.d_model, 40, (1, 3), generator=torch.Generator().manual_seed(0))
    found = losses(small_lm, sequences, sae)
    tokens = sequences.take(np.array([3]))

    def put_in(number):
        def replace(x):
            inserted = x.clone()
            inserted[:, 1:] = sae(x[:, 1:].flatten(0, 1)).reconstruction[number].view_as(x[:, 1:])
            return inserted

        return replace

    with torch.no_grad():
        for number in range(2):
            logits = small_lm.logits_with(tokens, {HOOK: put_in(number)})
            expected = next_token_loss(logits[:, 1:], tokens[:, 1:]).item()
            assert found["ce"][number, 3] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_saes_of_any_precision_are_inserted(small_lm, sequences, dtype):
    sae = TopKSAE(2, small_lm.d_model, 40, (1, 3), generator=torch.Generator().manual_seed(0))
    expected, found = (losses(small_lm, sequences, one) for one in (sae, copy.deepcopy(sae).to(dtype)))
    np.testing.assert_allclose(found["ce"], expected["ce"], rtol=0.02)
    for name in REFERENCES:
        np.testing.assert_array_equal(found[name], expected[name])


def test_how_sequences_are_batched_does_not_matter(small_lm, sequences):
    one, three = losses(small_lm, sequences, batch_size=1), losses(small_lm, sequences, batch_size=3)
    for name in one:
        np.testing.assert_allclose(one[name], three[name], atol=1e-5)


def test_what_is_skipped_is_left_alone(small_lm, sequences):
    """With all positions but the last one skipped, only the last prediction could change, and it is not asked for."""
    found = losses(small_lm, sequences, skip=10)
    assert found["ce"].shape == (2, 5)
    whole = losses(small_lm, sequences, skip=0)
    assert (whole["ce_zero"] != losses(small_lm, sequences)["ce_zero"]).any()


@pytest.mark.parametrize("options", [{"skip": -1}, {"skip": 10_000}, {"mean": torch.zeros(3)}])
def test_positions_and_means_that_do_not_fit_are_refused(small_lm, sequences, options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name}: must be"):
        losses(small_lm, sequences, **options)


def test_an_sae_of_another_width_is_refused(small_lm, sequences):
    with pytest.raises(LanguageModelError, match="d_in"):
        losses(small_lm, sequences, TopKSAE(1, small_lm.d_model + 1, 40, 3))


def test_loss_recovered_runs_from_the_ablation_to_the_model():
    assert loss_recovered(5.0, unmodified=3.0, ablated=5.0) == 0
    assert loss_recovered(3.0, unmodified=3.0, ablated=5.0) == 1
    assert loss_recovered(3.5, unmodified=3.0, ablated=5.0) == 0.75
