"""One EEG recording to vectors; real and simulated ones go the same way: MNE `Raw`, `windows`, `vectors`."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts, which take long, are imported when they are first used
from numpy.typing import NDArray

from mfrlib.data.eeg.header import EEGDataError
from mfrlib.data.eeg.preprocessing import Preprocessing, band_pass, check_signal, pick_eeg
from mfrlib.environment import needed

_BLOCK_VALUES = 2**23  # values read at a time: 64 MiB in double precision, and a few copies of it
_MARGIN_PERIODS = 10  # of the lower edge: 20 s, in which the slowest pole of the default filter decays by exp(-19)
_HELD_SECONDS = 0.25
# One sample, or two, may touch the limit by themselves: many files have the largest sample for limit.
_CLIPPED_SAMPLES = 3
Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Channels, and samples of the recording."""


def import_mne() -> Any:
    """Import MNE on first use; ImportError with the command that installs it."""
    with needed("EEG"):
        import mne
    return mne


class Windows(NamedTuple):
    """Consecutive windows of a recording."""

    volts: NDArray[np.float64]
    """`(n_windows, channels, samples)`: filtered and resampled, in volts."""
    usable: NDArray[np.bool_]
    """`(n_windows, channels)`: neither flat nor held nor clipped."""


def windows(
    raw: Any, preprocessing: Preprocessing, limits: Mapping[str, tuple[float, float]] | None = None
) -> Iterator[Windows]:
    """Filter, resample and cut a recording, some minutes at a time.

    The filter, `band_pass`, runs at the recorded rate. Then comes polyphase resampling, which has its own anti-aliasing filter, by the closest ratio
    up/down with down ≤ 10,000 (at most 0.01 % off). Stretches overlap by ten periods of `low` (20 s) on each
    side, in which the filter's memory fades below rounding; where the rates have no simple ratio, a stretch
    may start up to one recorded sample early. The incomplete window at the end is left out.

    A window of a channel is unusable if it is flat (under `flat` µV peak to peak once filtered: an electrode that is off), or if
    it touches 0.25 s without any change in the recorded samples (padding, a paused amplifier, a saturated converter; the last two
    seconds of every EEGMAT file are such padding), or if it has three recorded samples in a row at a limit of the converter's
    range (clipping, however short). The reference stays as recorded.

    `raw` is an `mne.io.Raw`, loaded or not. `limits` gives the range in volts beyond which a channel clips, as
    `mfrlib.data.eeg.edf.EDF` has them. Yields blocks of consecutive windows. Raises EEGDataError if channels, rate or duration
    do not fit, a sample is not finite, or MNE cannot read the samples.

    Deviates: R17. The paper names no window and no filter; band, order, zero phase and 1 s windows are those of its code, which
    takes all channels at once and stores half precision. Ours are single channels in single precision.
    """
    import_mne()
    name = str(next(iter(raw.filenames), None) or "recording")
    rate = float(raw.info["sfreq"])
    try:
        labels = list(pick_eeg(raw.ch_names, preprocessing))
        check_signal(rate, raw.n_times / rate, preprocessing)
    except ValueError as error:
        raise EEGDataError({name: str(error)}) from None

    ratio = Fraction(preprocessing.rate / rate).limit_denominator(10_000)
    up, down, width = ratio.numerator, ratio.denominator, preprocessing.width
    n_windows = raw.n_times * up // (down * width)
    block = max(1, int(_BLOCK_VALUES / (len(labels) * rate * preprocessing.seconds)))
    margin = max(1, round(_MARGIN_PERIODS / preprocessing.low / preprocessing.seconds))
    run = round(_HELD_SECONDS * rate)  # sample intervals without change
    for first in range(0, n_windows, block):
        last = min(first + block, n_windows)
        before = max(first - margin, 0)
        start = before * width * down // up
        stop = raw.n_times if last + margin >= n_windows else (last + margin) * width * down // up
        recorded = _read(raw, labels, start, stop, name)
        held = np.zeros((last - first, len(labels)), dtype=bool)
        channel, sample = _runs(recorded[:, 1:] == recorded[:, :-1], run)
        unusable = [(channel, sample), (channel, sample + run)]
        if limits:
            unusable += _clipped(recorded, np.array([limits[label] for label in labels]))
        for channel, sample in unusable:
            window = (start + sample) * up // (down * width) - first
            inside = (window >= 0) & (window < last - first)
            held[window[inside], channel[inside]] = True

        filtered = band_pass(recorded, rate, preprocessing)
        resampled = filtered if up == down else scipy.signal.resample_poly(filtered, up, down, axis=-1)
        cut = resampled[:, (first - before) * width :][:, : (last - first) * width]
        volts = cut.reshape(len(labels), last - first, width).swapaxes(0, 1)
        yield Windows(volts, ~held & (np.ptp(volts, axis=-1) >= preprocessing.flat * 1e-6))


def _read(raw: Any, labels: list[str], start: int, stop: int, name: str) -> NDArray[np.float64]:
    try:
        recorded = raw.get_data(picks=labels, start=start, stop=stop, verbose="ERROR")
    except Exception as error:
        reason = f"MNE cannot read its samples ({type(error).__name__}: {error})"
        raise EEGDataError({name: reason}) from error
    broken = [label for label, x in zip(labels, recorded, strict=True) if not np.isfinite(x).all()]
    if broken:
        raise EEGDataError({name: f"channels {', '.join(broken)} have samples that are not finite"})
    return recorded


def _clipped(recorded: NDArray[np.float64], bounds: NDArray[np.float64]) -> list[Places]:
    """Find runs of samples at a limit, `bounds` being (channel, 2): their starts, then ends."""
    low, high = bounds[:, :1], bounds[:, 1:]
    half_a_step = (high - low) / 2**17  # of a 16-bit converter: rounding errors are smaller
    found: list[Places] = []
    for at_limit in (recorded <= low + half_a_step, recorded >= high - half_a_step):
        channel, sample = _runs(at_limit, _CLIPPED_SAMPLES)
        found += [(channel, sample), (channel, sample + _CLIPPED_SAMPLES - 1)]
    return found


def _runs(flags: NDArray[np.bool_], length: int) -> Places:
    """Find where so many flags (channel, place) in a row are set."""
    counts = np.cumsum(np.pad(flags, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
    channel, place = np.nonzero(counts[:, length:] - counts[:, :-length] == length)
    return channel, place


def vectors(windows: Windows, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Scale each window of each channel to mean 0 and standard deviation 1; drop those that are not usable.

    z = (x − mean(x)) / std(x), over the samples of each window and channel, float32 `(n_vectors, d_in)`. `single` gives a
    vector per window and channel, window by window; `joint` one per window, channel after channel, and drops a window whole
    if any of its channels is not usable.
    """
    deviation = windows.volts.std(axis=-1, keepdims=True)
    usable = windows.usable & (deviation[..., 0] > 0)
    centred = windows.volts - windows.volts.mean(axis=-1, keepdims=True)
    scores = (centred / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    if preprocessing.channels == "single":
        return scores[usable]
    return scores[usable.all(axis=1)].reshape(-1, preprocessing.d_in)
