"""Section 3 of the MFR paper: SAEs on synthetic data whose features are known (Figures 2–8)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mfrbook.experiments.conditions import plan_conditions, seed_configs
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, collector, given
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import require, unknown_name
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.method.reinit import inactivity
from mfrlib.method.similarity import best_match, coherence, hungarian_match, unique_matches
from mfrlib.models.objectives import FVU, Reduction, reconstruction_loss
from mfrlib.models.sae import TopKSAE
from mfrlib.models.stack import activation_counts
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import train
from mfrlib.training.parallel import device_of

# S3: a feature is in the cluster if it is alike across SAEs and unlike every input feature (best cosines).
ALIKE_ACROSS, UNLIKE_INPUT = 0.7, 0.4
DATA_ID = "synthetic"  # the rest of the data's identity are fields of the config
RECOVERED = 0.9
"""Cosine from which on a row counts as having recovered a true feature (S11)."""
HELD_OUT_BATCHES = 10


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig(SyntheticSpec, TrainingConfig):
    """Data and training of one run; the defaults are preset `first-edition`, condition baseline."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        SyntheticSpec.__post_init__(self)
        TrainingConfig.__post_init__(self)
        require(self.n_saes >= 2, "n_saes", self.n_saes, "similarity across SAEs needs 2 or more")


# Whole presets, data and method (readings R1, R2, R8-R10, R12, R13). A preset is a reading and a profile a size: a preset
# names a size only where its reading does, as `as-released` does with one support per group and 500,000 of 50 M rows.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "as-printed": {"reduction": "sum"},
    "as-released": {
        "floor_groups": True, "support_rows": 500_000, "n_active": 32, "k": 32, "optimizer": "adam",
        "matching": "hungarian", "warmup": 100, "reinit_threshold": 2.5, "inactivity_power": 3, "reinit_limit": 1000,
        "steps": 5000,
    },
    "first-edition": {},
    "one-group": {"n_active": 3},
    "all-groups": {"n_active": 3, "n_active_groups": 12},
    "released-oct24": {
        "floor_groups": True, "support_rows": 1_000_000, "k": (36, 72), "optimizer": "adam", "learning_rate": 0.001,
        "matching": "hungarian", "warmup": 100, "reinit_threshold": 3.0,
    },
    "released-head": {
        "floor_groups": True, "support_rows": 1_000_000, "n_active": 32, "k": 32, "optimizer": "adam",
        "matching": "hungarian", "warmup": 100, "reinit_threshold": 2.5, "inactivity_power": 3,
    },
}  # fmt: skip
# What the conditions of a preset add: the weight of the penalty (R11), and when inactivity is checked (R10b).
ALPHA: Mapping[str, float] = dict.fromkeys(PRESETS, 3.0) | {"released-head": 0.0}
REINIT: Mapping[str, str] = dict.fromkeys(PRESETS, "window") | {"as-printed": "always", "as-released": "always"}


PROFILES = Profiles(
    smoke=Profile({"steps": 60, "batch_size": 200}, 2),
    quick=Profile({"steps": 400, "batch_size": 1000}, 5),
    published=Profile({}, 5),
)
PAPER_SAMPLES = 100_000_000
PAPER_CLUSTER: Mapping[str, tuple[int, ...]] = {"baseline": (15, 5), "mfr": (0,)}  # features per SAE, by kind of SAE


def configure(values: Mapping[str, Any], profile: str = "quick", preset: str = "first-edition") -> SyntheticConfig:
    """Return the config of a preset at a profile's size, with further fields changed."""
    for name, known, what in ((profile, PROFILES, "profile"), (preset, PRESETS, "preset")):
        if not isinstance(name, str) or name not in known:
            raise unknown_name(name, known, what)
    return build(SyntheticConfig, {**PRESETS[preset], **PROFILES[profile].fields, **values})


def run(config: SyntheticConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed."""

    def compute(folder: Path) -> Run:
        n_samples, device = config.steps * config.batch_size, device_of(config.device)
        source = SyntheticData(config, config.seed, config.batch_size, n_samples, device)
        trained = train(
            config,
            source,
            folder=folder,
            observe=lambda sae: _similarity_with_input(sae, source),
            progress=progress,
        )
        results, arrays = evaluate(trained.sae, source, config.reduction)
        results |= {
            "alpha": trained.alpha,
            "events": trained.events,
            "samples": config.steps * config.batch_size,
        }
        return Run("synthetic", describe_config(config), source.id, results, trained.metrics, arrays, trained.weights)

    return (store or Store()).compute("synthetic", config, DATA_ID, compute, fresh=fresh)


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the runs of the four conditions of a `preset`."""
    preset = values.get("preset", "first-edition")
    sized = partial(configure, profile=profile, preset=preset)
    changes, usual = given(values, SyntheticConfig), ALPHA.get(preset, 0.0)
    configs, alpha = seed_configs(sized, changes, PROFILES[profile], n_seeds, usual)
    return [plan_conditions("synthetic", config, alpha, DATA_ID, REINIT[preset]) for config in configs]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""


@torch.no_grad()
def evaluate(
    sae: TopKSAE, source: SyntheticData, reduction: Reduction = "mean"
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure a stack on held-out data and against the known features.

    Returns
    -------
    results : dict
        One number a run, or a list with one per SAE.
    arrays : dict of ndarray (sae, feature)
        `across`, `across_max`: cosine with the other SAEs, Hungarian and best (mean over the others);
        `input`, `input_max`: the same with the input features; `rate`: activation probability; `minus_mean`: cosine
        with minus the mean of the data.
    """
    device, n_saes, n_features = sae.weight.device, *sae.weight.shape[:2]
    counts, fvu, loss, mean, n = (
        torch.zeros(n_saes, n_features),
        FVU(),
        torch.zeros(n_saes),
        torch.zeros(source.d_in),
        0,
    )
    for x in source.held_out(HELD_OUT_BATCHES):
        output = sae(x.to(device))
        counts += activation_counts(output, n_features).cpu()
        x, reconstruction = x.cpu(), output.reconstruction.cpu()
        fvu.update(reconstruction, x)
        loss += reconstruction_loss(reconstruction, x, reduction) * len(x)
        mean, n = mean + (x + source.mean.cpu()).sum(0), n + len(x)
    weight, features, rates = sae.weight.detach().cpu(), source.features, counts / n
    others = [[j for j in range(n_saes) if j != i] for i in range(n_saes)]
    hungarian = [[hungarian_match(weight[i], weight[j]).cosine for j in others[i]] for i in range(n_saes)]
    best = [[best_match(weight[i], weight[j]).cosine for j in others[i]] for i in range(n_saes)]
    arrays = {
        "across": torch.stack([torch.stack(one).mean(0) for one in hungarian]),
        "across_max": torch.stack([torch.stack(one).mean(0) for one in best]),
        "input": torch.stack([hungarian_match(one, features).cosine for one in weight]),
        "input_max": torch.stack([best_match(one, features).cosine for one in weight]),
        "rate": rates,
        "minus_mean": -normalize(weight, dim=-1) @ normalize(mean, dim=0),
    }
    cluster = (arrays["across_max"] > ALIKE_ACROSS) & (arrays["input_max"] < UNLIKE_INPUT)
    dead = rates == 0
    results = {
        "loss": (loss / n).tolist(),
        "fvu": fvu.value().tolist(),
        "mmcs_input": arrays["input_max"].mean(1).tolist(),
        "matched_input": arrays["input"].nanmean(1).tolist(),
        "recovered": _recovered(weight, features),
        "mmcs_across": arrays["across_max"].mean(1).tolist(),
        "matched_across": arrays["across"].mean(1).tolist(),
        "unique_across": [
            float(np.mean([unique_matches(weight[i], weight[j]) for j in others[i]])) for i in range(n_saes)
        ],
        "unique_input": [unique_matches(one, features) for one in weight],
        "coherence": [coherence(one).item() for one in weight],
        "inactivity": inactivity(rates, sae.k).tolist(),
        "dead": dead.float().mean(1).tolist(),
        "r": pearson(arrays["across"], arrays["input"]),
        "r_max": pearson(arrays["across_max"], arrays["input_max"]),
        "r_without_cluster": pearson(arrays["across"][~cluster], arrays["input"][~cluster]),
        "cluster": cluster.sum(1).tolist(),
        "cluster_dead": (cluster & dead).sum(1).tolist(),
        "cluster_minus_mean": float(arrays["minus_mean"][cluster].mean()) if cluster.any() else None,
    }
    return results, {name: value.numpy() for name, value in arrays.items()} | {"cluster": cluster.numpy()}


def pearson(a: Tensor, b: Tensor) -> float:
    """Return Pearson's r of two arrays of one shape, over the entries that are finite in both."""
    kept = torch.isfinite(a) & torch.isfinite(b)
    return float(torch.corrcoef(torch.stack([a[kept], b[kept]]))[0, 1])


def _similarity_with_input(sae: TopKSAE, source: SyntheticData) -> dict[str, list[float]]:
    with torch.no_grad():
        weight = sae.weight.cpu()
        return {
            "mmcs_input": [best_match(one, source.features).cosine.mean().item() for one in weight],
            "recovered": _recovered(weight, source.features),
        }


def _recovered(weight: Tensor, features: Tensor) -> list[float]:
    """Share of the input features that some row of each SAE recovers."""
    return [(best_match(features, one).cosine >= RECOVERED).float().mean().item() for one in weight]
