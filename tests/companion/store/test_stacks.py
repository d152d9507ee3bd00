"""SAEs of a run, made again from its weights."""

from dataclasses import replace

import pytest
import torch

from mfrbook.store.runs import Run
from mfrbook.store.stacks import stack_of
from mfrlib.training.config import TrainingConfig

FORM = {"decoder": "raw", "activation": "relu", "decoder_bias": True}
CONFIG = TrainingConfig(steps=1, batch_size=8, n_saes=2, n_features=12, k=(2, 9), **FORM)


@pytest.fixture
def trained():
    sae = CONFIG.new_stack(6, torch.Generator().manual_seed(0))
    with torch.no_grad():
        sae.decoder_bias += 0.5
    return sae


def run_of(sae):
    return Run("none", {}, "", {}, weights={name: value.detach() for name, value in sae.named_parameters()})


def test_it_does_what_the_trained_stack_does(trained):
    x, again = torch.randn(20, 6, generator=torch.Generator().manual_seed(1)), stack_of(CONFIG, run_of(trained))
    assert again.settings == trained.settings
    assert again(x).reconstruction.equal(trained(x).reconstruction)


@pytest.mark.parametrize("changed", [{"decoder_bias": False}, {"n_features": 11}])
def test_weights_of_another_form_are_refused(trained, changed):
    with pytest.raises(RuntimeError, match=r"decoder_bias|weight"):
        stack_of(replace(CONFIG, **changed), run_of(trained))


def test_weights_that_are_missing_are_refused(trained):
    run = run_of(trained)
    del run.weights["decoder_bias"]
    with pytest.raises(RuntimeError, match="decoder_bias"):
        stack_of(CONFIG, run)
