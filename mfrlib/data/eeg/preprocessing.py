"""Which channels of an EEG recording are used, and the settings by which it becomes vectors (reading R17)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

from mfrlib.config import option, require, require_types

# fmt: off
TEN_TWENTY = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8",
              "P7", "P3", "Pz", "P4", "P8", "O1", "O2")
# fmt: on
"""The 19 scalp electrodes of the 10–20 system; T7, T8, P7, P8 were once T3, T4, T5, T6."""

MAX_RATE = 20_000
"""Highest sampling rate in Hz that is taken. No EEG amplifier is faster, but a damaged header may say so."""

_PRESENT_NAME = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_ELECTRODE = re.compile(r"(FP|AF|F|FT|FC|T|C|TP|CP|P|PO|O|I|N)(Z|[1-9]|10)")
_LINKED = {"A1": "ears", "A2": "ears", "M1": "mastoids", "M2": "mastoids"}
_REFERENCE = re.compile(r"[-:/_](REF|LE|AR|AVG|A1|A2|A1A2|M1|M2|M1M2)$")
_DERIVED = re.compile(r"([^-]+)-([^-]+)")
# Electrodes counted through by letter, A1 to D32 or H32 on BioSemi's caps: C3 is then no 10–20 electrode.
_COUNTED = re.compile(r"[A-H]([1-9]|[12][0-9]|3[0-2])")
_TOLD_APART = ("A1", "A2", "E1", "E2")  # ears, and the eyes in recordings of sleep


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a recording becomes vectors: pick (`pick_eeg`), filter, resample and cut (`recording.windows`), z-score (`recording.vectors`).

    Raises
    ------
    ConfigError
        Naming the field, the value given and what is allowed.
    """

    channels: Literal["single", "joint"] = option(
        "single",
        "single: a vector is a window of one channel; joint: of all `electrodes`, one after the other (R17)",
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


def electrode(label: str) -> str | None:
    """Return the 10–20 or 10–10 name in a channel's label, or None where it is no scalp electrode.

    Taken off are an `EEG ` in front, a common reference behind (`-REF`, `-LE`, `-AR`, `-AVG`, `-A1`, `-A2`,
    `-M1`, `-M2`, also after `:`, `/` or `_`) and trailing dots; the rest must be a name of the 10–10 system, in any case. So ECG, EOG,
    EMG, photic and burst channels, the references themselves (`A1`, `M2`, `EEG A2-A1`) and bipolar
    derivations (`Fp1-F7`) fall away.

    Examples
    --------
    >>> [electrode(label) for label in ("EEG FP1-REF", "Fc5.", "EEG T3-LE", "EEG A2-A1", "ECG ECG")]
    ['Fp1', 'FC5', 'T7', None, None]
    """
    name = _REFERENCE.sub("", _bare(label))
    found = _ELECTRODE.fullmatch(name)
    if not found:
        return None
    region, place = found.groups()
    name = ("Fp" if region == "FP" else region) + place.lower()
    return _PRESENT_NAME.get(name, name)


def _bare(label: str) -> str:
    """Return a label in capitals, without `EEG` in front, trailing dots, and spaces about a hyphen."""
    return re.sub(r"\s*([-:/])\s*", r"\1", label.strip().upper().removeprefix("EEG").strip().rstrip(". "))


def _against_one_reference(labels: Iterable[str]) -> dict[str, str]:
    """Return electrodes by label where all labels of electrodes name one and the same other place: a common reference.

    What one reference is called differs between laboratories (`-CPz`, `-CLE`). Bipolar derivations name several, and a
    single channel against another electrode may be one of those, so it is not taken.
    """
    found, references = {}, set()
    for label in labels:
        derived = _DERIVED.fullmatch(_bare(label))
        name = electrode(derived[1]) if derived else None
        if derived and name:
            found[label] = name
            references.add(derived[2])
    sure = len(references) == 1 and (len(found) > 1 or electrode(next(iter(references))) is None)
    return found if sure else {}


def _require_own_system(labels: Iterable[str]) -> None:
    """Refuse labels that count electrodes through by letters, beside which C3 or F4 may be any place on the head."""
    bare = [_REFERENCE.sub("", _bare(label)) for label in labels]
    foreign = [one for one in bare if _COUNTED.fullmatch(one) and one not in _TOLD_APART and electrode(one) is None]
    if len(foreign) > 1 or any(one[0] in "CF" for one in foreign):  # no system has a C17 beside an electrode C1
        raise ValueError(
            f"labels of another system than 10–20, {', '.join(foreign[:4])}: positions are not guessed. Rename the channels "
            "to 10–20 or 10–10 electrodes in the files"
        )


def pick_eeg(labels: Iterable[str], preprocessing: Preprocessing | None = None) -> dict[str, str]:
    """Choose the channels to use.

    Parameters
    ----------
    labels : iterable of str
        Channel names as recorded.
    preprocessing : Preprocessing, optional
        With `channels="joint"`, the result holds its electrodes in its order; otherwise every scalp
        electrode, in the order of recording.

    Returns
    -------
    dict of str to str
        Electrode by label.

    Raises
    ------
    ValueError
        If there is no scalp electrode, if two labels name the same one, if one that `joint` needs is missing, or if the
        labels are of another system.
    """
    labels = list(labels)
    _require_own_system(labels)
    label_of: dict[str, str] = {}
    names = {label: electrode(label) for label in labels}
    if not any(names.values()):
        names = {**names, **_against_one_reference(labels)}
    for label in labels:
        name = names[label]
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


def require_one_reference(labels: Iterable[str]) -> None:
    """Refuse channels that were recorded against different references, as far as their labels name them.

    Between files the reference may differ: each window is z-scored, and the reference stays as recorded.

    Raises
    ------
    ValueError
        Naming a channel of each reference.
    """
    first: dict[str, str] = {}
    for label in labels:
        found = _REFERENCE.search(_bare(label))
        # Each side's own ear or mastoid is one montage: C3-A2 beside C4-A1.
        first.setdefault(_LINKED.get(found[1], found[1]) if found else "", label)
    if len(first) > 1:
        named = ", ".join(map(repr, first.values()))
        raise ValueError(f"channels with different references in one file: {named}")


def check_signal(rate: float, seconds: float, preprocessing: Preprocessing) -> None:
    """Refuse a sampling rate (Hz) or a duration (s) that the band-pass cannot work with.

    Raises
    ------
    ValueError
        If the rate is not above twice the upper edge of the band (90 Hz) or is above 20 kHz, or if the
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
