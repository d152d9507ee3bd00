"""SAEs of a run, made again from its weights."""

from typing import Any

import torch

from mfrbook.store.runs import Run
from mfrlib.training.config import TrainingConfig


def stack_of(config: TrainingConfig, run: Run) -> Any:
    """Return the trained stack of a run of this config; RuntimeError if the weights are those of another form."""
    sae = config.new_stack(run.weights["weight"].shape[2], torch.Generator())
    sae.load_state_dict(run.weights)
    return sae
