"""The settings by which an EEG recording becomes vectors, the channels that are picked, and the filter (reading R17)."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mfrlib.config import option, require, require_types
from mfrlib.data.eeg.electrodes import TEN_TWENTY, against_one_reference, electrode, require_own_system

MAX_RATE = 20_000
"""Highest sampling rate in Hz that is taken. No EEG amplifier is faster, but a damaged header may say so."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a recording becomes vectors: pick (`pick_eeg`), filter (`band_pass`), resample and cut (`recording.windows`), z-score.

    Raises ConfigError naming the field, the value given and what is allowed.
    """

    channels: Literal["single", "joint"] = option(
        "single", "single: a vector is a window of one channel; joint: of all `electrodes`, one after the other (R17)"
    )
    rate: int = option(0, "sampling rate of the windows in Hz; 0: 250 for single, 128 for joint (R17)")
    low: float = option(0.5, "lower edge of the band-pass in Hz")
    high: float = option(45.0, "upper edge of the band-pass in Hz")
    order: int = option(5, "order of the Butterworth design, run forwards and backwards")
    seconds: float = option(1.0, "length of a window in seconds; windows do not overlap")
    flat: float = option(2.0, "peak-to-peak µV under which a filtered window is flat (electrocerebral silence)")
    electrodes: tuple[str, ...] = option(TEN_TWENTY, "joint: electrodes of a vector; each recording must have them")

    def __post_init__(self) -> None:
        """Fill in the rate and refuse impossible values."""
        require_types(self)
        if self.rate == 0:
            object.__setattr__(self, "rate", 250 if self.channels == "single" else 128)
        require(0 < self.low < self.high, "low", self.low, f"must be between 0 and high = {self.high} Hz")
        allowed = f"must be over 2 · high = {2 * self.high} Hz and at most {MAX_RATE} Hz"
        require(2 * self.high < self.rate <= MAX_RATE, "rate", self.rate, allowed)
        require(1 <= self.order <= 10, "order", self.order, "must be 1 to 10")
        whole = 0 < self.seconds <= 60 and abs(self.rate * self.seconds - self.width) < 1e-9 and self.width > 1
        allowed = f"must be up to 60 and a whole number of samples at {self.rate} Hz"
        require(whole, "seconds", self.seconds, allowed)
        require(0 <= self.flat < 1000, "flat", self.flat, "must be from 0 to 1000 µV")
        known = all(electrode(name) == name for name in self.electrodes)
        distinct = 0 < len(self.electrodes) == len(set(self.electrodes))
        allowed = f"must be distinct names such as {TEN_TWENTY[:3]}"
        require(known and distinct, "electrodes", self.electrodes, allowed)

    @property
    def width(self) -> int:
        """Samples of one channel in a window."""
        return round(self.rate * self.seconds)

    @property
    def d_in(self) -> int:
        """Length of a vector."""
        return self.width * (len(self.electrodes) if self.channels == "joint" else 1)

    @property
    def label(self) -> str:
        """Short name of the settings: `single:250Hz:0.5-45Hz`, then every other field not at its default."""
        parts = [self.channels, f"{self.rate}Hz", f"{self.low:g}-{self.high:g}Hz"]
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.name in ("order", "seconds", "flat", "electrodes") and value != field.default:
                parts.append(f"{field.name}={'+'.join(value) if isinstance(value, tuple) else format(value, 'g')}")
        return ":".join(parts)


def pick_eeg(labels: Iterable[str], preprocessing: Preprocessing | None = None) -> dict[str, str]:
    """Choose the channels to use of those recorded: return electrodes by label.

    With `channels="joint"` they are the electrodes of the settings in their order; otherwise every scalp electrode, in the
    order of recording. Raises ValueError if there is no scalp electrode, if two labels name the same one, if one that `joint`
    needs is missing, or if the labels are of another system.
    """
    labels = list(labels)
    require_own_system(labels)
    label_of: dict[str, str] = {}
    derived = against_one_reference(labels)
    for label in labels:
        name = derived.get(label) if derived else electrode(label)
        if name is not None and name in label_of:
            raise ValueError(f"channels {label_of[name]!r} and {label!r} are both electrode {name}")
        if name is not None:
            label_of[name] = label
    if not label_of:
        raise ValueError(
            f"no EEG channel among {labels[:30]}: names must be those of the 10–20 system, against a common reference"
        )
    if preprocessing is None or preprocessing.channels == "single":
        return {label: name for name, label in label_of.items()}
    missing = [name for name in preprocessing.electrodes if name not in label_of]
    if missing:
        raise ValueError(f"no electrode {', '.join(missing)}, which channels='joint' needs")
    return {label_of[name]: name for name in preprocessing.electrodes}


def check_signal(rate: float, seconds: float, preprocessing: Preprocessing) -> None:
    """Refuse a sampling rate (Hz) or a duration (s) that the band-pass cannot work with.

    Raises ValueError if the rate is not above twice the upper edge of the band (90 Hz) or is above 20 kHz, or if the
    recording is shorter than two periods of the lower edge (4 s at 0.5 Hz) or than a window.
    """
    lowest = 2 * preprocessing.high
    if not lowest < rate <= MAX_RATE:
        raise ValueError(
            f"sampling rate {rate:g} Hz: more than {lowest:g} Hz are needed (twice the upper edge of the "
            f"band), at most {MAX_RATE} Hz are taken"
        )
    shortest = max(2 / preprocessing.low, preprocessing.seconds)
    if seconds < shortest:
        raise ValueError(
            f"lasts {seconds:g} s: a band from {preprocessing.low:g} Hz and windows of "
            f"{preprocessing.seconds:g} s need at least {shortest:g} s"
        )


def band_pass(recorded: NDArray[np.float64], rate: float, preprocessing: Preprocessing) -> NDArray[np.float64]:
    """Filter samples `(channel, sample)` recorded at a rate in Hz, in place.

    The band-pass is a Butterworth design of `order` (2 · order poles), in second-order sections, run forwards
    and backwards: no phase shift, and the gain of two passes, `|H(f)|²`, so −6 dB at the edges.
    """
    from mne.filter import filter_data

    design = {"order": preprocessing.order, "ftype": "butter", "output": "sos"}
    edges = preprocessing.low, preprocessing.high
    return filter_data(
        recorded, rate, *edges, method="iir", iir_params=design, phase="zero", copy=False, verbose="ERROR"
    )
