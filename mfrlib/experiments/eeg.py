"""Sections 4.2 and 4.3 of the MFR paper: SAEs of several k on windows of EEG (Table 3, Figure 10)."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mfrlib import evaluation
from mfrlib.config import build, option, unknown_name
from mfrlib.data.eeg import Preprocessing, declared_id, open_eeg
from mfrlib.data.eeg_simulation import simulated_eeg, simulated_name
from mfrlib.data.eeg_windows import EEGWindows
from mfrlib.experiments import Planned, Profile, condition_runs, drop_unset, plan_conditions, require_penalty, seeds
from mfrlib.runs import Run, Store, complete, describe_config
from mfrlib.sae import TopKSAE
from mfrlib.training import TrainingConfig, train

PAPER_SAMPLES = 3_500_000


@dataclass(frozen=True, kw_only=True)
class EEGConfig(TrainingConfig):
    """Data and training of one run; the defaults are the paper's (§4.2), condition baseline."""

    steps: int = option(3418, "training steps: 3.5 M windows (§4.2)")
    batch_size: int = option(1024, "windows per step (§4.2)")
    n_saes: int = option(5, "SAEs trained side by side (§4.2)")
    n_features: int = option(4096, "features per SAE (§4.2; R19)")
    k: int | tuple[int, ...] = option((12, 24, 36, 48, 60), "active features per window, one for each SAE (§4.2; R19)")
    calibration: Literal["balance", "loss"] = option(
        "loss", "rule of alpha=calibrate: α is the initial reconstruction loss (R11)"
    )
    warmup: int = option(100, "steps of cosine warm-up of the penalty (§4.2)")
    learning_rate: float = option(0.001, "learning rate (§4.2)")
    channels: Literal["single", "joint"] = option(
        "single", "single: a window of one channel; joint: of all channels at 128 Hz (R17)"
    )
    data: str = option("", "folder of EDF files; empty: the simulation", in_key=False)
    readable_only: bool = option(False, "leave out recordings that cannot be used")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        Preprocessing(channels=self.channels)  # refuses what is neither single nor joint


PROFILES: Mapping[str, Profile] = {
    "smoke": Profile({"steps": 40, "batch_size": 128, "n_features": 256}, 2),
    "quick": Profile({"steps": 200, "batch_size": 256, "n_features": 512}, 5),
    "paper": Profile({}, 5),
}


def default_data(profile: str) -> str:
    """Return the data used where none is named: EEGMAT below `MFR_DATA`, else the simulation; for `paper`, EEGMAT."""
    folder = os.environ.get("MFR_DATA")
    if folder and (Path(folder) / "eeg" / "eegmat").is_dir():
        return str(Path(folder) / "eeg" / "eegmat")
    return "eegmat" if profile == "paper" else ""


def data_id(config: EEGConfig) -> str:
    """Return the declared identity of a config's training data, without opening it."""
    name = Path(config.data).resolve().name if config.data else simulated_name()
    return declared_id(name, Preprocessing(channels=config.channels), "train")


def _open(config: EEGConfig, split: Any) -> EEGWindows:
    preprocessing = Preprocessing(channels=config.channels)
    batches: dict[str, Any] = {"split": split, "batch_size": config.batch_size, "seed": config.seed}
    if not config.data:
        return simulated_eeg(preprocessing, **batches)
    return open_eeg(config.data, preprocessing, readable_only=config.readable_only, **batches)


def configure(values: Mapping[str, Any], profile: str = "quick") -> EEGConfig:
    """Return the config of a profile's size, with further fields changed."""
    if profile not in PROFILES:
        raise unknown_name(profile, PROFILES, "profile")
    return build(EEGConfig, {"data": default_data(profile), **PROFILES[profile].fields, **values})


def run(config: EEGConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed.

    A stored run of a folder of the same name but other recordings is reported and computed again.
    """
    store, identity = store or Store(), data_id(config)
    found = None if fresh or not Path(config.data).is_dir() else store.get("eeg", config, identity)
    if found and found.provenance.get("data_hash") != _open(config, "train").hash:
        warnings.warn(
            f"the stored run {found.key} was made from other recordings than {config.data} holds now", stacklevel=2
        )
        fresh = True

    def compute(folder: Path) -> Run:
        source = _open(config, "train")
        trained = train(config, source, folder=folder, progress=progress)
        results, arrays = evaluate(trained.sae, _open(config, "test"))
        results |= {
            "alpha": trained.alpha,
            "events": trained.events,
            "samples": config.steps * config.batch_size,
            "unique_windows": source.n_windows,
            "epochs": source.epochs(config.steps),
            "subjects": len(source.subjects),
            "simulated": source.simulated,
        }
        weights = {name: value.detach().cpu().contiguous() for name, value in trained.sae.named_parameters()}
        config_fields = describe_config(config) | {"data": Path(config.data).name}  # no path of this machine
        return Run(
            "eeg", config_fields, source.id, results, trained.metrics, arrays, weights, {"data_hash": source.hash}
        )

    return store.compute("eeg", config, identity, compute, fresh=fresh)


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the runs of the four conditions at a profile's size."""
    configs, alpha = _configs(profile, n_seeds, values or {})
    store = Store(trains=profile != "paper" if trains is None else trains)
    return complete(partial(condition_runs, run, config, alpha, store) for config in configs)


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that a notebook with these parameters asks for, refusing values that no run could have."""
    names = {field.name for field in fields(EEGConfig)}
    changes = {name: value for name, value in values.items() if name in names}
    configs, alpha = _configs(values["profile"], values.get("n_seeds"), changes)
    return [one for config in configs for one in plan_conditions("eeg", config, alpha, data_id(config))]


def _configs(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> tuple[list[EEGConfig], Any]:
    """Return a config for each seed, and the weight of the penalty."""
    changes = drop_unset(values)
    alpha = changes.pop("alpha", "calibrate")
    configure({**changes, "alpha": alpha}, profile)  # refuses impossible values before anything runs
    require_penalty(alpha)
    chosen = seeds(n_seeds, PROFILES[profile])
    return [configure({**changes, "seed": seed}, profile) for seed in chosen], alpha


def evaluate(sae: TopKSAE, held_out: EEGWindows) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure a stack on held-out subjects; see `mfrlib.evaluation.evaluate`."""
    found = evaluation.evaluate(sae, held_out.iterate())
    sizes = {"held_out_windows": found.n, "held_out_subjects": len(held_out.subjects)}
    return found.results | sizes, {"rate": found.rate}
