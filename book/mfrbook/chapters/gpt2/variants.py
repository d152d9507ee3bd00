"""Other ways to train Section 4.1's SAEs, each a control of one idea: centred data, a frozen partner, a warm start."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfrlib.config import option, require
from mfrlib.data.batches import ALL_SHARDS
from mfrlib.method.matching import Matches
from mfrlib.method.penalty import mutual_feature_penalty, warmup
from mfrlib.models.sae import TopKSAE
from mfrlib.randomness import WEIGHTS, generator
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import Trained, reconstruct, train

CENTER_BATCHES = 100
"""Batches whose mean stands for the data's."""
_FROZEN = 62  # stream of a seed


@dataclass(frozen=True, kw_only=True)
class VariantConfig(TrainingConfig):
    """What the library's training is varied by."""

    center: bool = option(False, f"subtract the mean of the first {CENTER_BATCHES} batches of activations")
    frozen: bool = option(False, "penalty towards one random dictionary that never changes, not towards each other")
    warm_start: int = option(
        0, "steps of the SAEs of smaller k from the weights of the one of the largest, trained first; 0: from their own"
    )

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        require(self.warm_start >= 0, "warm_start", self.warm_start, "must be 0 or more")
        chosen = [name for name in ("center", "frozen", "warm_start", "revival") if getattr(self, name)]
        require(len(chosen) <= 1, ", ".join(chosen), True, "one of them at a time")
        require(not (self.center and self.decoder_bias), "center", True, "must be false with decoder_bias")
        require(not self.frozen or self.alpha != 0, "frozen", True, "needs an alpha that is not 0")
        require(
            not self.warm_start or (self.n_saes > 1 and self.ks.count(max(self.ks)) == 1 and self.alpha == 0),
            "warm_start", self.warm_start, "needs one SAE of the largest k beside others, and alpha = 0",
        )  # fmt: skip


def train_variant(config: VariantConfig, source: Any, folder: Path | None, *, progress: bool = True) -> Trained:
    """Train a stack as the config says; see `mfrlib.training.loop.train`."""
    if config.warm_start:
        return _warm_started(config, source, folder, progress)
    if config.center:
        centred = _Centred(source)
        trained = train(config, centred, folder=folder, progress=progress)
        return trained._replace(sae=_with_mean(trained.sae, centred.mean))
    if config.frozen:
        alpha = _mutual_alpha(config, source)
        pull = TowardsFrozen(config, source, frozen_dictionary(config, source.d_in), alpha)
        trained = train(
            replace(config, alpha=0.0, frozen=False), pull, folder=folder, objective=pull, progress=progress
        )
        return trained._replace(alpha=alpha)
    return train(config, source, folder=folder, progress=progress)


class _Centred:
    """A source less the mean of its first batches."""

    def __init__(self, source: Any) -> None:
        self.source, self.d_in, self.id = source, source.d_in, f"{source.id}:centred"
        self.mean = torch.stack([source.batch(step).mean(0) for step in range(CENTER_BATCHES)]).mean(0)

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        return self.source.batch(step, shards) - self.mean


def _with_mean(sae: TopKSAE, mean: Tensor) -> TopKSAE:
    """Return the stack that does to rows what `sae` does to rows less their mean, and adds it again."""
    tensors = {name: value.detach() for name, value in sae.named_parameters()}
    shift = mean.to(sae.weight.device).expand(len(sae.weight), -1).contiguous()
    return TopKSAE.of(sae.settings | {"decoder_bias": True}, tensors | {"decoder_bias": shift})


class TowardsFrozen:
    r"""A source and its objective: reconstruction, and :math:`\alpha \frac2N (1 - \text{MMCS}(W^{(i)}, R))` for each SAE.

    With the penalty's mean over pairs, :math:`\frac2N \alpha` is the weight of one SAE's mean dissimilarity from the
    others: here a frozen dictionary :math:`R` is in the others' place. As a source it knows the step, which the penalty's
    warm-up needs. The loss returned has the value of the reconstruction alone, and the gradient of the sum.
    """

    def __init__(self, config: VariantConfig, source: Any, target: Tensor, alpha: float) -> None:
        self.config, self.source, self.target, self.alpha = config, source, target, alpha
        self.d_in, self.id, self.step = source.d_in, source.id, 0
        self._matches = [Matches() for _ in range(config.n_saes)]

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the source's batch of a step."""
        self.step = step
        found: Tensor = self.source.batch(step, shards)
        return found

    def __call__(self, sae: TopKSAE, x: Tensor) -> tuple[Tensor, Any]:
        """Return the loss of each SAE, `(sae,)`, and the codes."""
        config, (own, found) = self.config, reconstruct(sae, x, self.config.reduction)
        target = self.target.to(sae.weight)
        apart = [
            mutual_feature_penalty(torch.stack([one, target]), config.matching, config.direction, matches=matches)
            for one, matches in zip(sae.weight, self._matches, strict=True)
        ]
        pull = self.alpha * warmup(self.step, config.warmup) * 2 / config.n_saes * torch.stack(apart)
        return own + (pull - pull.detach()), found


def frozen_dictionary(config: VariantConfig, d_in: int) -> Tensor:
    """Return a random dictionary `(feature, d_in)`, drawn as an SAE's first weights are."""
    draws = generator(config.seed, _FROZEN)
    return TopKSAE(1, d_in, config.n_features, max(config.ks), generator=draws).weight.detach()[0]


@torch.no_grad()
def _mutual_alpha(config: VariantConfig, source: Any) -> float:
    """Return α as a run with the mutual penalty and the same seed has it."""
    sae = config.new_stack(source.d_in, generator(config.seed, WEIGHTS, 0))
    loss = reconstruct(sae, source.batch(0), config.reduction)[0].mean().item()
    return config.first_alpha(loss, mutual_feature_penalty(sae.weight, config.matching, config.direction).item())


@dataclass(frozen=True, kw_only=True)
class _From(TrainingConfig):
    """Training that starts from the weights of an SAE."""

    start: TopKSAE | None = option(None, "an SAE of the same shape", in_key=False)

    def new_stack(self, d_in: int, draws: torch.Generator) -> TopKSAE:
        """Return the stack to train."""
        stack: TopKSAE = super().new_stack(d_in, draws)
        assert self.start is not None
        with torch.no_grad():
            for (_, mine), (_, theirs) in zip(stack.named_parameters(), self.start.named_parameters(), strict=True):
                mine.copy_(theirs.cpu().expand_as(mine))
        return stack


def _warm_started(config: VariantConfig, source: Any, folder: Path | None, progress: bool) -> Trained:
    """Train the SAE of the largest k alone, then the others from its weights; records are of the steps that both have."""
    assert isinstance(config.k, tuple)
    largest = max(range(config.n_saes), key=config.k.__getitem__)
    rest = tuple(k for one, k in enumerate(config.k) if one != largest)
    usual = {one.name: getattr(config, one.name) for one in fields(TrainingConfig)}
    alone = TrainingConfig(**usual | {"n_saes": 1, "k": (config.k[largest],)})
    first = train(alone, source, folder=folder and folder / "largest", progress=progress)
    others = _From(**usual | {"n_saes": len(rest), "k": rest, "steps": config.warm_start}, start=first.sae)
    then = train(others, source, folder=folder and folder / "others", progress=progress)

    def put(values: Sequence[Any], one: Any) -> list[Any]:
        return [*values[:largest], one, *values[largest:]]

    tensors = {
        name: torch.stack(put([*value.detach()], mine.detach()[0]))
        for (name, value), (_, mine) in zip(then.sae.named_parameters(), first.sae.named_parameters(), strict=True)
    }
    known = {record["step"]: record for record in first.metrics}
    metrics = [
        {"step": step} | {name: put(record[name], known[step][name][0]) for name in ("loss", "inactivity")}
        for record in then.metrics
        if (step := record["step"]) in known
    ]
    return Trained(
        TopKSAE.of(then.sae.settings | {"n_saes": config.n_saes, "k": list(config.k)}, tensors), 0.0, metrics, []
    )
