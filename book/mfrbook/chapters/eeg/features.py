"""What is measured of each feature learned on EEG: its spectrum, where on the head it is active, in which recordings.

Everything is measured on held-out subjects, for one SAE of a stack, the one with the smallest k: with few features
active at a time, each stands for the most.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mfrbook.chapters.eeg.recordings.labelled import LabelledRecording
from mfrlib.data.eeg.electrodes import TEN_TWENTY
from mfrlib.data.eeg.preprocessing import Preprocessing
from mfrlib.models.sae import TopKSAE

STRETCH_SECONDS = 10


@torch.no_grad()
def measure(
    sae: TopKSAE, recordings: Iterable[LabelledRecording], preprocessing: Preprocessing
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Go through recordings and measure the features of the SAE with the smallest k.

    Returns
    -------
    results : dict
        `feature_sae` (its place in the stack), `electrodes`, `recordings` and `recording_subjects` (the names behind
        the axes below), `stretch` (recording, second and electrodes of the example; None where there is no usable
        stretch).
    arrays : dict of ndarray
        `feature_activity` (electrode, feature): mean absolute activation per usable window; for joint vectors,
        over the share of the feature's energy that lies on an electrode. `recording_rate` (recording, feature): share
        of vectors in which a feature is active. `feature_spectrum` (feature, Hz): power of the decoder row, of
        sum 1, at whole Hz. `stretch` (signal, electrode, sample): ten seconds in µV as recorded and filtered, as
        the SAE with the smallest k has them, and as that with the largest. In half precision, but for the rates.
    """
    place = int(np.argmin(sae.k))
    smallest, largest = sae[place], sae[int(np.argmax(sae.k))]
    n_features, device = sae.weight.shape[1], sae.weight.device
    rows = smallest.dictionary[0].cpu().numpy()
    by_channel = rows.reshape(n_features, -1, preprocessing.width)
    on_electrode = np.square(by_channel).sum(-1)  # joint: how much of a feature lies on each electrode
    on_electrode /= np.maximum(on_electrode.sum(1, keepdims=True), 1e-12)

    activity: dict[str, NDArray[np.float64]] = {}
    seen: dict[str, int] = {}
    joint = preprocessing.channels == "joint"

    def add(electrodes: Sequence[str], channels: NDArray[Any], indices: NDArray[Any], values: NDArray[Any]) -> None:
        for channel in np.unique(channels):
            mine = channels == channel
            total = np.bincount(indices[mine].ravel(), values[mine].ravel(), minlength=n_features)
            for i in range(len(electrodes)) if joint else [int(channel)]:
                name, share = electrodes[i], on_electrode[:, i] if joint else 1.0
                activity[name] = activity.get(name, np.zeros(n_features)) + share * total
                seen[name] = seen.get(name, 0) + int(mine.sum())

    names, subjects, rates, stretch, about = [], [], [], None, None
    for recording in recordings:
        active, n = np.zeros(n_features), 0
        for block in recording.blocks():
            if stretch is None and (start := _usable_stretch(block.usable)) is not None:
                stretch = _example(block, start, (smallest, largest), preprocessing)
                about = {"recording": recording.name, "second": start, "electrodes": list(recording.electrodes)}
            for first in range(0, len(block.vectors), 4096):
                part = slice(first, first + 4096)
                output = smallest(torch.from_numpy(block.vectors[part]).to(device))
                indices, values = output.indices[0].cpu().numpy(), output.values[0].abs().cpu().numpy()
                active += np.bincount(indices.ravel(), values.ravel() != 0, minlength=n_features)
                n += len(indices)
                add(recording.electrodes, block.channel[part], indices, values)
        names.append(recording.name)
        subjects.append(recording.subject)
        rates.append(active / max(n, 1))
    electrodes = sorted(activity, key=lambda name: (TEN_TWENTY.index(name) if name in TEN_TWENTY else 99, name))
    results = {"feature_sae": place, "electrodes": electrodes, "recordings": names, "recording_subjects": subjects,
               "stretch": about}  # fmt: skip
    arrays: dict[str, np.ndarray] = {
        "feature_activity": np.array([activity[name] / seen[name] for name in electrodes], dtype=np.float16),
        "recording_rate": np.array(rates, dtype=np.float32),
        "feature_spectrum": spectrum(by_channel, preprocessing.rate).astype(np.float16),
    }
    return results, arrays | ({} if stretch is None else {"stretch": stretch.astype(np.float16)})


def spectrum(rows: NDArray[Any], rate: float) -> NDArray[np.float64]:
    """Return the power of rows `(feature, channel, sample)` at 0, 1, … 45 Hz, summed over channels, of sum 1."""
    n = rows.shape[-1]
    power = np.square(np.abs(np.fft.rfft(rows, axis=-1))).sum(1)
    nearest = np.abs(np.fft.rfftfreq(n, 1 / rate)[:, None] - np.arange(46)).argmin(0)
    at_whole_hertz = power[:, nearest]
    return at_whole_hertz / np.maximum(at_whole_hertz.sum(1, keepdims=True), 1e-30)


def _usable_stretch(usable: NDArray[np.bool_]) -> int | None:
    """Return the first window that begins a stretch without an unusable window in any channel."""
    whole = np.flatnonzero(np.convolve(usable.all(1), np.ones(STRETCH_SECONDS), "valid") >= STRETCH_SECONDS)
    return int(whole[0]) if len(whole) else None


def _example(block: Any, start: int, saes: tuple[TopKSAE, ...], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return a stretch and its reconstructions `(signal, electrode, sample)` in µV, each window at its own scale."""
    windows = slice(start, start + STRETCH_SECONDS)
    volts = block.volts[windows]
    mine = (block.window >= start) & (block.window < start + STRETCH_SECONDS)
    mean, deviation = volts.mean(-1, keepdims=True), volts.std(-1, keepdims=True)
    signals = [volts]
    for sae in saes:
        x = torch.from_numpy(block.vectors[mine]).to(sae.weight.device)
        signals.append(sae(x).reconstruction[0].cpu().numpy().reshape(volts.shape) * deviation + mean)
    microvolts = 1e6 * np.array(signals)
    return microvolts.transpose(0, 2, 1, 3).reshape(len(signals), volts.shape[1], -1).astype(np.float32)
