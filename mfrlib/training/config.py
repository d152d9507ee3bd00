"""What every training run is told: sizes, penalty, re-initialisation, optimiser, records."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from mfrlib.config import option, require, require_types
from mfrlib.method.penalty import Direction, Matching, calibrated_alpha, warmup
from mfrlib.method.reinit import Mode
from mfrlib.models.objectives import Reduction
from mfrlib.models.sae import TopKSAE


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a training is told. Sizes, k and learning rate are the paper's (§3.2), but MFR is off: set `alpha` and `reinit`. ConfigError for impossible values."""

    seed: int = option(0, "seed of the weights and of the data")
    steps: int = option(10_000, "training steps")
    batch_size: int = option(10_000, "samples per step (§3.2)")
    n_saes: int = option(2, "SAEs trained side by side (§3.2)")
    n_features: int = option(512, "features per SAE (§3.2)")
    k: int | tuple[int, ...] = option(36, "active features per sample, one for all SAEs or one each (§3.2)")
    alpha: float | Literal["calibrate"] = option(0.0, "weight of the mutual feature penalty; 0: none (§3.3)")
    calibration: Literal["balance", "loss"] = option("balance", "rule of alpha=calibrate (R11)")
    alpha_scale: float = option(1.0, "what a calibrated alpha is multiplied by")
    warmup: int = option(0, "steps of cosine warm-up of the penalty (R11)")
    matching: Matching = option("max", "matching in the penalty (R9)")
    direction: Direction = option("one-way", "direction of the penalty (R9b)")
    reinit: Mode = option(
        "off", "when inactivity is checked: never, in a window after each start, or at every step (R10b)"
    )
    reinit_threshold: float = option(1.0, "inactivity above which an SAE starts again (Figure 8)")
    reinit_window: int = option(100, "steps after a start in which reinit=window looks (R10b)")
    reinit_limit: int = option(20, "re-initialisations per SAE before the run is given up")
    inactivity_power: Literal[1, 3] = option(1, "power in the inactivity statistic (R10)")
    decoder: Literal["normalized", "raw"] = option("normalized", "decoder rows (R5)")
    activation: Literal["none", "relu"] = option("none", "what is applied to the k selected entries (R6)")
    decoder_bias: bool = option(False, "learned bias before the encoder and after the decoder (Q9)")
    optimizer: Literal["adamw", "adam"] = option("adamw", "optimiser (R8)")
    weight_decay: float = option(0.01, "share of the learning rate by which AdamW shrinks weights; Adam: none")
    learning_rate: float = option(0.01, "learning rate (§3.2)")
    learning_rate_warmup: int = option(0, "steps in which the learning rate rises to it")
    learning_rate_end: float = option(1.0, "learning rate after the last step, as a share: a cosine leads there")
    reduction: Reduction = option("mean", "reconstruction term: mean or sum over the elements of a sample (R12)")
    revival: float = option(0.0, "weight of the loss that revives dead features (AuxK); 0: none, 1/32 as published")
    revival_k: int = option(512, "dead features that explain a sample's residual at most")
    revival_after: int = option(40_000, "samples without activation after which a feature is dead")
    log_every: int = option(10, "steps between records; the first reinit_window steps have one each", in_key=False)
    checkpoint_every: int = option(200, "steps between checkpoints", in_key=False)
    device: str = option("auto", "cpu, cuda, mps, or auto: cuda where there is one", in_key=False)
    compiled: bool = option(False, "compile the step with torch.compile; for GPUs", in_key=False)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_types(self)
        counted = ("steps", "batch_size", "n_saes", "n_features", "log_every", "checkpoint_every", "reinit_limit")
        for name in (*counted, "revival_k", "revival_after"):
            self._require(name, getattr(self, name) >= 1, "must be 1 or more")
        for name in ("seed", "warmup", "reinit_window", "learning_rate_warmup"):
            self._require(name, getattr(self, name) >= 0, "must be 0 or more")
        for name in ("learning_rate", "reinit_threshold", "alpha_scale"):
            self._require(name, 0 < getattr(self, name) < math.inf, "must be positive and finite")
        self._require("revival", 0 <= self.revival < math.inf, "must be 0, or positive and finite")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "must be 0, or positive and finite")
        self._require("learning_rate_end", 0 <= self.learning_rate_end <= 1, "must be from 0 to 1")
        self._require("k", len(self.ks) == self.n_saes, f"one value, or n_saes = {self.n_saes}")
        allowed = f"between 1 and n_features = {self.n_features}"
        self._require("k", all(1 <= k <= self.n_features for k in self.ks), allowed)
        alpha = 1.0 if self.alpha == "calibrate" else self.alpha
        self._require("alpha", 0 <= alpha < math.inf, "must be 0, positive and finite, or 'calibrate'")
        self._require("alpha", alpha == 0 or self.n_saes > 1, "a penalty needs n_saes of 2 or more")
        allowed = "must be auto, cpu, or cuda or mps where there is such a GPU"
        self._require("device", self.device == "auto" or _exists(self.device), allowed)

    def _require(self, name: str, condition: bool, allowed: str) -> None:
        require(condition, name, getattr(self, name), allowed)

    @property
    def ks(self) -> tuple[int, ...]:
        """The k of each SAE."""
        return self.k if isinstance(self.k, tuple) else (self.k,) * self.n_saes

    def new_stack(self, d_in: int, draws: torch.Generator) -> Any:
        """Return the stack to train, with fresh weights."""
        form: Any = {name: getattr(self, name) for name in ("decoder", "activation", "decoder_bias")}
        return TopKSAE(self.n_saes, d_in, self.n_features, self.k, **form, generator=draws)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: a linear rise, a cosine from the first step to the last; constant by default."""
        rise = min(1.0, (step + 1) / (self.learning_rate_warmup + 1))
        fall = (1 - self.learning_rate_end) * warmup(step, self.steps)
        return self.learning_rate * rise * (1 - fall)

    def first_alpha(self, loss: float, penalty: float) -> float:
        """Return α from the mean loss of the SAEs and their penalty, both before the first step."""
        if self.alpha != "calibrate":
            return float(self.alpha)
        allowed = f"needs a loss above 0 at the first step, which has {loss:g}; give a number"
        require(not loss <= 0, "alpha", self.alpha, allowed)  # NaN has an error of its own
        return self.alpha_scale * calibrated_alpha(self.calibration, loss, penalty)


def _exists(device: str) -> bool:
    there = {"cpu": device == "cpu", "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return there.get(device.split(":")[0], False)
