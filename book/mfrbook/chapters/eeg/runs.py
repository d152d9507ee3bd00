"""Sections 4.2 and 4.3 of the MFR paper: SAEs of several k on windows of EEG (Table 3, Figure 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mfrbook.chapters.eeg import features as eeg_features
from mfrbook.chapters.eeg.recordings.eegbci import N_SUBJECTS, fetch_eegbci
from mfrbook.chapters.eeg.recordings.labelled import labelled
from mfrbook.chapters.eeg.recordings.simulation import simulated_eeg, simulated_name
from mfrbook.experiments.archived import default_data, identity_of_recordings, not_here
from mfrbook.experiments.conditions import seed_configs
from mfrbook.experiments.planned import Profile, Profiles, given
from mfrbook.experiments.sources import EEGBCI, located
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require
from mfrlib.data.eeg.folder import identity_of_windows, open_eeg
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.windows import EEGWindows
from mfrlib.data.identity import Identity
from mfrlib.method import evaluation
from mfrlib.method.reinit import ReinitLimitError
from mfrlib.models.sae import SAEOutput, TopKSAE
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import Objective, train

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
    data: str = option("", "folder of EDF files, or eegbci, which MNE fetches; empty: the simulation", in_key=False)
    subjects: int = option(20, "data=eegbci: its first subjects, 1 to 109", in_key=False)
    describe: bool = option(
        True, "measure where, when and at which frequencies the features of the smallest k are active"
    )
    readable_only: bool = option(False, "leave out recordings that cannot be used")
    input_dropout: float = option(
        0.0, "share of the samples of each window that the encoder sees as 0; the target is whole"
    )

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        object.__setattr__(self, "data", located("data", self.data))
        Preprocessing(channels=self.channels)  # refuses what is neither single nor joint
        require(0 <= self.input_dropout < 1, "input_dropout", self.input_dropout, "must be at least 0 and under 1")
        require(1 <= self.subjects <= N_SUBJECTS, "subjects", self.subjects, f"must be 1 to {N_SUBJECTS}")


PROFILES = Profiles(
    smoke=Profile({"steps": 40, "batch_size": 128, "n_features": 256}, 2),
    quick=Profile({"steps": 100, "batch_size": 256, "n_features": 384, "warmup": 40}, 5),
    published=Profile({"log_every": 100}, 5),  # a seed of both conditions takes two hours on one core
)


def data_id(config: EEGConfig) -> str:
    """Return the identity of a config's training data.

    Raises
    ------
    EEGDataError
        If the recordings named are not there; those of the archive need not be.
    """
    name = identity_of_recordings(*_files(config)) if config.data else Identity(simulated_name())
    return identity_of_windows(name, Preprocessing(channels=config.channels), "train")


def open_split(config: EEGConfig, split: Any) -> EEGWindows:
    """Return the windows of one side of the subjects, "train" or "test", of recordings or of the simulation."""
    preprocessing = Preprocessing(channels=config.channels)
    batches: dict[str, Any] = {"split": split, "batch_size": config.batch_size, "seed": config.seed}
    if not config.data:
        return simulated_eeg(preprocessing, **batches)
    folder, only = _files(config)
    return open_eeg(folder, preprocessing, readable_only=config.readable_only, only=only, **batches)


def _files(config: EEGConfig) -> tuple[Path, list[str] | None]:
    """Return the folder of the recordings and, of a data set that is fetched, the names of those to use."""
    return fetch_eegbci(config.subjects) if config.data == EEGBCI else (Path(config.data), None)


def configure(values: Mapping[str, Any], profile: str = "quick") -> EEGConfig:
    """Return the config of a profile's size, with further fields changed."""
    return build(EEGConfig, {"data": default_data(profile), **PROFILES[profile].fields, **values})


def run(config: EEGConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed.

    Raises
    ------
    EEGDataError, ConfigError
        If the recordings are not there or cannot be used, before anything is trained.
    """
    store, identity = store or Store(), data_id(config)

    def compute(folder: Path) -> Run:
        source, held_out = open_split(config, "train"), open_split(config, "test")
        objective = partial(reconstruct_dropped, share=config.input_dropout) if config.input_dropout else None
        trained = train(config, source, folder=folder, objective=objective, progress=progress)
        results, arrays = evaluate(trained.sae, held_out)
        if config.describe:
            preprocessing = Preprocessing(channels=config.channels)
            about, measured = eeg_features.measure(trained.sae, labelled(held_out, preprocessing), preprocessing)
            results, arrays = results | about, arrays | measured
        results |= {
            "alpha": trained.alpha,
            "events": trained.events,
            "samples": config.steps * config.batch_size,
            "unique_windows": source.n_windows,
            "epochs": source.epochs(config.steps),
            "subjects": len(source.subjects),
            "simulated": not config.data,
            "d_in": source.d_in,
        }
        if config.reinit == "off":
            results["passing_starts"] = passing_starts(config, source, trained.metrics, objective)
        config_fields = describe_config(config) | {"data": Path(config.data).name}  # no path of this machine
        return Run(
            "eeg",
            config_fields,
            identity,
            results,
            trained.metrics,
            arrays,
            trained.weights,
            {"data_hash": source.hash},
        )

    return store.compute("eeg", config, identity, compute, fresh=fresh, absent=not_here(config))


def configs(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> tuple[list[EEGConfig], Any]:
    """Return a config for each seed, the first of which describes its features, and the weight of the penalty."""

    def sized(changes: Mapping[str, Any]) -> EEGConfig:
        return configure({"describe": changes.get("seed") == 0, **changes}, profile)

    return seed_configs(sized, given(values, EEGConfig), PROFILES[profile], n_seeds)


def passing_starts(
    config: EEGConfig, source: EEGWindows, metrics: Sequence[Mapping[str, Any]], objective: Objective | None
) -> list[float]:
    """Return, for each SAE, the share of starts that conditional re-initialisation would leave to train on (R10b).

    1 for an SAE that stays below the threshold in its window. Any other is trained again alone, by the run's objective
    without penalty, and re-initialised whenever it exceeds the threshold: one over the number of its starts, or 0 where it
    uses up its `reinit_limit`, so that the run would have been given up.
    """
    watched = [one["inactivity"] for one in metrics if one["step"] < config.reinit_window]
    if not watched:
        return [1.0] * config.n_saes
    found = []
    for place, highest in enumerate(np.max(watched, axis=0)):
        alone = replace(config, n_saes=1, k=config.ks[place], alpha=0.0, reinit="window", checkpoint_every=config.steps)
        starts = 1.0
        if highest > config.reinit_threshold:
            try:
                starts += len(train(alone, source, objective=objective, progress=False).events)
            except ReinitLimitError:
                starts = np.inf
        found.append(float(1 / starts))
    return found


def reconstruct_dropped(sae: TopKSAE, x: Tensor, share: float) -> tuple[Tensor, SAEOutput]:
    """Return the mean squared error `(sae,)` of windows `(batch, d_in)` from what is left of them, the rest scaled up, and the codes.

    What is dropped is a function of the batch, so that a run that goes on from a checkpoint drops the same.
    """
    draws = torch.Generator().manual_seed(int(x.cpu().view(torch.int32).sum(dtype=torch.int64)) % 2**63)
    kept = (torch.rand(x.shape, generator=draws) >= share).to(x)
    output = sae(x * kept / (1 - share))
    return (output.reconstruction - x).square().mean((1, 2)), output


def evaluate(sae: TopKSAE, held_out: EEGWindows) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure a stack on held-out subjects; see `mfrlib.method.evaluation.evaluate`."""
    found = evaluation.evaluate(sae, held_out.iterate())
    sizes = {"held_out_windows": found.n, "held_out_subjects": len(held_out.subjects)}
    return found.results | sizes, {"rate": found.rate}
