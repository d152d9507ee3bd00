"""Real denoising of EEG: SAEs against what a practitioner would use, on artefacts with a known clean signal (Q6, R18)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mfrbook.chapters.denoising import scores
from mfrbook.chapters.denoising.classical import LinearModel
from mfrbook.chapters.denoising.clean_recordings import clean_recordings
from mfrbook.chapters.eeg.recordings.simulation import simulated_eeg, simulated_name
from mfrbook.experiments.archived import (
    default_data,
    default_eye_movements,
    identity_of_eyes,
    identity_of_recordings,
    not_here,
)
from mfrbook.experiments.planned import Profile, Profiles
from mfrbook.experiments.sources import located
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require
from mfrlib.data.eeg.folder import identity_of_windows, open_eeg
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.data.eeg.windows import EEGWindows
from mfrlib.data.identity import Identity, joined
from mfrlib.denoising.artefacts import (
    KINDS,
    EyeMovements,
    Kind,
    load_eye_movements,
)
from mfrlib.denoising.noisy_windows import Bank, Mixing, NoisyWindows
from mfrlib.denoising.stack import denoising_loss
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import train

PAPER_SAMPLES = 3_500_000
Learns = Literal["noisy-to-clean", "reconstruction", "nothing"]
CONDITIONS: Mapping[str, tuple[Learns, bool]] = {
    "denoising": ("noisy-to-clean", False), "denoising-mfr": ("noisy-to-clean", True),
    "reconstruction": ("reconstruction", False), "reconstruction-mfr": ("reconstruction", True),
    "classical": ("nothing", False),
}  # fmt: skip
"""What is learnt in each condition, and whether by MFR (penalty, and re-initialisation in its window)."""
_LONG = Preprocessing(seconds=4.0)  # windows of one second are cut from these at random places
_FITTED = 60  # batches that the linear models are fitted on


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(TrainingConfig):
    """Data, training and test of one run; the defaults are those of profile `published`, an eighth of the paper's features."""

    steps: int = option(800, "training steps")
    batch_size: int = option(512, "windows per step")
    n_saes: int = option(5, "SAEs trained side by side (§4.2)")
    n_features: int = option(512, "features per SAE; the paper has 4096 (§4.2)")
    k: int | tuple[int, ...] = option((12, 24, 36, 48, 60), "active features per window, one for each SAE (§4.2)")
    calibration: Literal["balance", "loss"] = option(
        "loss", "rule of alpha=calibrate: α is the initial reconstruction loss (R11)"
    )
    warmup: int = option(100, "steps of cosine warm-up of the penalty (§4.2)")
    learning_rate: float = option(0.001, "learning rate (§4.2)")
    learns: Learns = option(
        "noisy-to-clean", "noisy-to-clean; reconstruction: of clean windows, as the paper; nothing: classical methods"
    )
    artefacts: tuple[str, ...] = option(KINDS, "kinds of artefact, in training and test")
    test_snrs: tuple[float, ...] = option((-7.0, -4.0, -1.0, 2.0), "signal-to-noise ratios of the test in dB")
    lowest_snr: float = option(-15.0, "lowest signal-to-noise ratio of a training window in dB")
    highest_snr: float = option(10.0, "highest one in dB")
    test_recordings: int = option(4, "recordings of the test at most, one for each held-out subject")
    test_seconds: float = option(60.0, "length of a test recording at most, in seconds")
    data: str = option("", "folder of EDF files; empty: the simulation", in_key=False)
    readable_only: bool = option(False, "leave out recordings that cannot be used")
    eye_movements: str = option("", "npz file of recorded eye movements; empty: simulated", in_key=False)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        for name in ("data", "eye_movements"):
            object.__setattr__(self, name, located(name, getattr(self, name)))
        kinds = self.artefacts
        require(len(kinds) >= 1 and len(set(kinds)) == len(kinds), "artefacts", kinds, "one or more, each once")
        for kind in kinds:
            require(kind in KINDS, "artefacts", kind, f"must be of {', '.join(KINDS)}")
        require(len(self.test_snrs) >= 1, "test_snrs", self.test_snrs, "must be one or more")
        for name, value in [("test_snrs", one) for one in self.test_snrs] + [
            (name, getattr(self, name)) for name in ("lowest_snr", "highest_snr")
        ]:
            require(bool(np.isfinite(value)) and -60 <= value <= 60, name, value, "must be finite, from −60 to 60 dB")
        require(self.lowest_snr <= self.highest_snr, "lowest_snr", self.lowest_snr, "must not be above highest_snr")
        require(self.test_recordings >= 1, "test_recordings", self.test_recordings, "must be 1 or more")
        require(20 <= self.test_seconds <= 3600, "test_seconds", self.test_seconds, "must be 20 to 3600 s")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of artefact."""
        return tuple(kind for kind in get_args(Kind) if kind in self.artefacts)


_SMALL: Mapping[str, Any] = {"n_saes": 2, "k": (12, 36), "test_recordings": 1, "learning_rate": 0.003, "warmup": 10}
PROFILES = Profiles(
    smoke=Profile(
        {**_SMALL, "steps": 20, "batch_size": 64, "n_features": 128, "test_snrs": (-7.0,), "test_seconds": 20.0}, 2
    ),
    quick=Profile(
        {**_SMALL, "n_saes": 3, "k": (12, 36, 60), "steps": 80, "batch_size": 128, "n_features": 256,
         "test_snrs": (-7.0, 2.0), "test_seconds": 20.0}, 3
    ),
    published=Profile({}, 5),
)  # fmt: skip


def data_id(config: DenoisingConfig) -> str:
    """Return the identity of a config's data: recordings, and eye movements.

    Raises
    ------
    EEGDataError, ConfigError
        If the recordings or the eye movements named are not there; those of the archive need not be.
    """
    recordings = identity_of_recordings(config.data) if config.data else Identity(simulated_name())
    eyes = identity_of_eyes(config.eye_movements)
    return joined(f"{identity_of_windows(recordings.name, _LONG, 'train')}:eyes={eyes}", recordings, eyes)


def configure(values: Mapping[str, Any], profile: str = "quick") -> DenoisingConfig:
    """Return the config of a profile's size, with further fields changed."""
    places = {"data": default_data(profile), "eye_movements": default_eye_movements(profile)}
    return build(DenoisingConfig, {**places, **PROFILES[profile].fields, **values})


def training_windows(config: DenoisingConfig) -> EEGWindows:
    """Open the clean windows of a config's training subjects, 4 s each."""
    if config.data:
        return open_eeg(
            config.data, _LONG, batch_size=config.batch_size, seed=config.seed, readable_only=config.readable_only
        )
    return replace(_simulated(), batch_size=config.batch_size, seed=config.seed)


@lru_cache(maxsize=1)
def _simulated() -> EEGWindows:
    return simulated_eeg(_LONG)


def training_pairs(config: DenoisingConfig, eyes: EyeMovements | None) -> NoisyWindows:
    """Return the pairs of a config: noisy and clean windows, or twice the clean one where it learns reconstruction."""
    mixing = Mixing((config.lowest_snr, config.highest_snr))
    bank = None
    if config.learns != "reconstruction":
        bank = Bank.draw(_LONG.rate, config.seed, config.kinds, eyes)
    return NoisyWindows(training_windows(config), _LONG.rate, bank, config.seed, mixing)


def run(config: DenoisingConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed.

    Raises
    ------
    ConfigError, EEGDataError
        If eye movements or recordings cannot be used, before anything is trained.
    """
    store, identity = store or Store(), data_id(config)

    def compute(folder: Path) -> Run:
        eyes, recordings = _eyes(config), test_recordings(config)
        mixes = (config.kinds, config.test_snrs)
        pairs = training_pairs(config, eyes)
        results: dict[str, Any] = {"simulated": not config.data, "simulated_eyes": eyes is None}
        metrics: list[dict[str, Any]] = []
        weights: dict[str, Any] = {}
        if config.learns == "nothing":
            batches = [pairs.batch(step).numpy() for step in range(min(config.steps, _FITTED))]
            middle = sorted(config.ks)[config.n_saes // 2]
            trained = {"pca": LinearModel.pca(batches, middle), "wiener": LinearModel.wiener(batches)}
            measured, arrays = scores.test(
                recordings, mixes, config.seed, eyes, partial(scores.classical, trained=trained, seed=config.seed)
            )
            results |= {"measures": measured, "samples": len(batches) * config.batch_size}
        else:
            done = train(config, pairs, folder=folder, objective=denoising_loss, progress=progress)
            measured, arrays = scores.test(recordings, mixes, config.seed, eyes, partial(scores.by_stack, sae=done.sae))
            results |= {
                "measures": measured, "loss": scores.reconstruction(recordings, done.sae), "alpha": done.alpha,
                "events": done.events, "samples": config.steps * config.batch_size,
                "unique_windows": pairs.clean.n_windows, "subjects": len(pairs.clean.subjects),
            }  # fmt: skip
            metrics = done.metrics
            weights = done.weights
        names = {
            "data": Path(config.data).name,
            "eye_movements": Path(config.eye_movements).stem,
        }  # no path of this machine
        sources = pairs.clean.hash + (eyes.sha256 if eyes else "")
        return Run(
            "denoising", describe_config(config) | names, identity, results, metrics, arrays, weights,
            {"data_hash": hashlib.sha256(sources.encode()).hexdigest()},
        )  # fmt: skip

    return store.compute("denoising", config, identity, compute, fresh=fresh, absent=not_here(config))


def _eyes(config: DenoisingConfig) -> EyeMovements | None:
    return load_eye_movements(config.eye_movements) if config.eye_movements else None


def test_recordings(config: DenoisingConfig) -> list[Any]:
    """Return the recordings of the test, clean."""
    folder = config.data or None
    found = list(
        clean_recordings(folder, Preprocessing(), config.test_recordings, config.test_seconds, config.readable_only)
    )
    require(bool(found), "data", config.data, "holds no held-out recording")
    return found
