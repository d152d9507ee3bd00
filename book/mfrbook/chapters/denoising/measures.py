"""Q6: what answers the questions on denoising."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mfrbook.chapters.denoising import tables as denoising_tables
from mfrbook.experiments.evidence import Evidence, Untested

RECONSTRUCTING = denoising_tables.SAES[2:]
"""Methods whose SAEs learnt to reconstruct, as the paper's."""
IN_BAND, OUT_OF_BAND = ("eye", "heart"), ("muscle", "line")
"""Artefacts whose power lies in the band that SAEs learnt from, and those much of whose power lies outside of it."""


def _correlated(evidence: Evidence, methods: Sequence[str]) -> list[float]:
    return _correlated_in(denoising_tables.single_saes(evidence.get("denoising")), methods)


def _correlated_in(saes: pd.DataFrame, methods: Sequence[str]) -> list[float]:
    found = denoising_tables.correlation(saes, methods)
    if not np.isfinite(found).all():
        raise Untested("Needs three SAEs or more a seed, whose losses differ.")
    return found


def denoise_loss_r(evidence: Evidence) -> list[float]:
    """Q6: Pearson's r of reconstruction loss and error of denoising over SAEs that learnt reconstruction, all k."""
    return _correlated(evidence, RECONSTRUCTING)


def denoise_loss_r_all(evidence: Evidence) -> list[float]:
    """Q6: the same over all SAEs, those taught noisy to clean with them."""
    return _correlated(evidence, denoising_tables.SAES)


def denoise_loss_r_within_k(evidence: Evidence) -> list[float]:
    """Q6k: the same of both divided by their mean at each k, where MFR alone tells SAEs apart."""
    found = denoising_tables.single_saes(evidence.get("denoising"))
    found = found[found["method"].isin(RECONSTRUCTING)]
    errors = found[["loss", "rrmse_t"]]
    over_mean = errors / errors.groupby([found["seed"], found["k"]]).transform("mean")
    return _correlated_in(found.assign(**over_mean), RECONSTRUCTING)


def _denoised(evidence: Evidence, method: str, measure: str, kind: str | None = None, of: str = "k") -> np.ndarray:
    """Return a measure for each seed: of SAEs by themselves, mean over k, or of the mean of a stack's estimates."""
    table = denoising_tables.measures(evidence.get("denoising"), of=of)
    return denoising_tables.mean_of(table, method, measure, kind)


def denoise_mfr(evidence: Evidence) -> list[float]:
    """Q6: relative reduction of the error of denoising by MFR, SAEs taught noisy to clean, each by itself, mean over k."""
    return _less_error(evidence, "denoising")


def denoise_mfr_reconstruction(evidence: Evidence) -> list[float]:
    """Q6: the same for SAEs that learnt reconstruction, as the paper's."""
    return _less_error(evidence, "reconstruction")


def denoise_mfr_mean(evidence: Evidence) -> list[float]:
    """Q6: the same for the mean of a stack's estimates, SAEs taught noisy to clean."""
    return _less_error(evidence, "denoising", "stack")


def _less_error(evidence: Evidence, learnt: str, of: str = "k") -> list[float]:
    return (-denoising_tables.mfr_change(evidence.get("denoising"), learnt, of)).tolist()


def denoise_gain(evidence: Evidence) -> list[float]:
    """Q6n: gain in SNR over doing nothing on muscle and mains, SAEs taught noisy to clean, each by itself, mean over k, dB."""
    return _gain(evidence, "denoising", OUT_OF_BAND)


def denoise_gain_in_band(evidence: Evidence) -> list[float]:
    """Q6ne: the same on eye movements and heartbeat."""
    return _gain(evidence, "denoising", IN_BAND)


def denoise_gain_reconstruction(evidence: Evidence) -> list[float]:
    """Q6p: as Q6n for SAEs that learnt reconstruction, as the paper's."""
    return _gain(evidence, "reconstruction", OUT_OF_BAND)


def denoise_gain_reconstruction_in_band(evidence: Evidence) -> list[float]:
    """Q6pe: the same on eye movements and heartbeat."""
    return _gain(evidence, "reconstruction", IN_BAND)


def _gain(evidence: Evidence, method: str, kinds: Sequence[str]) -> list[float]:
    return np.mean([_denoised(evidence, method, "snr_gain", kind) for kind in kinds], axis=0).tolist()


def denoise_ica(evidence: Evidence) -> list[float]:
    """Q6: gain in SNR on eye movements, SAEs taught noisy to clean minus ICA, dB."""
    saes = _denoised(evidence, "denoising", "snr_gain", "eye")
    ica = _denoised(evidence, "ica", "snr_gain", "eye", of="stack")
    if len(saes) != len(ica):
        raise Untested("Needs runs with eye movements.")
    return (saes - ica).tolist()
