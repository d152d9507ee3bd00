"""How well the methods of one run denoise its test recordings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy  # its parts, which take long, are imported when they are first used
from numpy.typing import NDArray

from mfrbook.chapters.denoising.classical import LinearModel, methods, nothing
from mfrbook.chapters.denoising.closeness import measure
from mfrbook.chapters.denoising.contamination import NoisyRecording, contaminate
from mfrlib.denoising.artefacts import KINDS, EyeMovements, Kind
from mfrlib.denoising.stack import estimates, overlap_add
from mfrlib.models.sae import TopKSAE

EXAMPLE_SECONDS = 6.0


Estimates = Iterator[tuple[str, NDArray[np.float64]]]
Mixes = tuple[Sequence[Kind], Sequence[float]]


def by_stack(noisy: NoisyRecording, sae: TopKSAE) -> Estimates:
    """Yield what the stack makes of a recording, the mean over its SAEs, and what each SAE makes of it."""
    signals = nothing(noisy.raw)
    each = overlap_add(signals, sae.weight.shape[2], partial(estimates, sae))
    yield "stack", each.mean(0)
    for k, one in zip(sae.k, each, strict=True):
        yield f"k={k}", one


def classical(noisy: NoisyRecording, trained: Mapping[str, LinearModel], seed: int) -> Estimates:
    """Yield what each classical method makes of a recording."""
    for name, method in methods(noisy.kind, trained, seed).items():
        yield name, method(noisy.raw)


def test(
    recordings: Sequence[Any],
    mixes: Mixes,
    seed: int,
    eyes: EyeMovements | None,
    denoise: Callable[[NoisyRecording], Estimates],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure estimates on every test recording, as it is and with every kind of artefact at every ratio.

    Parameters
    ----------
    recordings
        Clean ones (`mne.io.Raw`), of one sampling rate.
    mixes
        Kinds of artefact, and signal-to-noise ratios in dB.
    denoise
        Yields methods by name, and what each makes of a noisy recording.

    Returns
    -------
    rows : list of dict
        `method`, `kind`, `snr` (both None where nothing was added), and the measures, means over recordings.
    arrays : dict
        Of the first recording at the lowest ratio: `trace_METHOD`, some seconds of the worst channel with the first kind, µV;
        `spectrum_KIND_METHOD`, power spectral density, a mean over channels, µV²/Hz, every half hertz.
    """
    collected: dict[tuple[str, str | None, float | None], list[dict[str, float]]] = {}
    arrays: dict[str, Any] = {}
    kinds, snrs = mixes
    added: list[tuple[Kind | None, float | None]] = [(None, None), *((kind, snr) for kind in kinds for snr in snrs)]
    for number, raw in enumerate(recordings):
        rate = float(raw.info["sfreq"])
        for kind, snr in added:
            draw = (seed, number, KINDS.index(kind) if kind else len(KINDS), 3)
            noisy = contaminate(raw, kind, snr, draw, eyes)
            before = nothing(noisy.raw)
            shown = number == 0 and kind is not None and snr == min(snrs)
            if shown:
                arrays[f"spectrum_{kind}_clean"] = _spectrum(noisy.clean, rate)
                arrays[f"spectrum_{kind}_noisy"] = _spectrum(before, rate)
            first = shown and kind == kinds[0]
            cut = _worst(noisy.clean, before, rate) if first else None
            if cut:
                arrays |= {"trace_clean": 1e6 * noisy.clean[cut], "trace_noisy": 1e6 * before[cut]}
            for method, estimate in denoise(noisy):
                found = measure(noisy.clean, before, estimate, rate)
                collected.setdefault((method, kind, snr), []).append(found)
                if shown and not method.startswith("k="):
                    arrays[f"spectrum_{kind}_{method}"] = _spectrum(estimate, rate)
                    arrays |= {f"trace_{method}": 1e6 * estimate[cut]} if cut else {}
    rows: list[dict[str, Any]] = [
        {"method": method, "kind": kind, "snr": snr, "recordings": len(found), **_means(found)}
        for (method, kind, snr), found in collected.items()
    ]
    return rows, {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def _means(found: list[dict[str, float]]) -> dict[str, float | None]:
    """Return means over recordings; None where a measure is undefined."""
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {name: value if np.isfinite(value) else None for name, value in means.items()}


def _spectrum(signals: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    return scipy.signal.welch(1e6 * signals, rate, nperseg=round(2 * rate), axis=-1)[1].mean(0)


def _worst(clean: NDArray[np.float64], noisy: NDArray[np.float64], rate: float) -> tuple[int, slice]:
    """Return the channel with the strongest artefact, and the seconds in which it is strongest."""
    power = np.square(noisy - clean)
    channel, width = int(power.sum(1).argmax()), round(EXAMPLE_SECONDS * rate)
    total = np.concatenate([[0], np.cumsum(power[channel])])
    start = int((total[width:] - total[:-width]).argmax())
    return channel, slice(start, start + width)


def reconstruction(recordings: Sequence[Any], sae: TopKSAE) -> list[float]:
    """Return each SAE's reconstruction loss on windows of the clean recordings, scaled as in training."""
    total, n = np.zeros(len(sae.k)), 0
    for raw in recordings:
        signals = nothing(raw)
        width = sae.weight.shape[2]
        windows = signals[:, : signals.shape[1] // width * width].reshape(-1, width)
        scale = np.square(windows).mean(1)
        total += (np.square(estimates(sae, windows) - windows).mean(2) / scale).sum(1)
        n += len(windows)
    return (total / n).tolist()
