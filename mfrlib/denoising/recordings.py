"""What an estimator takes of MNE objects: sampling rate, EEG channels, and the stretches of signal that are good."""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfrlib.config import require
from mfrlib.data.eeg.recording import import_mne

_BREAKS = ("BAD", "EDGE")
RATE_TOLERANCE = 1e-5
"""As a share of the rate, since rates are kept in single precision (FIF) or as a whole number of microseconds (BrainVision)."""


class Recordings(NamedTuple):
    """MNE objects: sampling rate in Hz, EEG channels, and the signals of the good ones, `(n_signals, n_times)` each."""

    rate: float
    names: list[str]
    signals: list[NDArray[Any]]


def is_mne(X: Any) -> bool:
    """Tell MNE objects, or a sequence with some, from arrays."""
    return any(hasattr(one, "info") and hasattr(one, "ch_names") for one in (X if isinstance(X, list | tuple) else [X]))


def is_epochs(X: Any) -> bool:
    """Tell an array `(n_epochs, n_channels, n_times)` from windows."""
    return getattr(X, "ndim", 0) == 3 and hasattr(X, "shape")


def require_no_recordings(y: Any, X: Any) -> None:
    """Refuse a `y` that holds recordings like X (ConfigError): scikit-learn passes labels there, which nothing here uses."""
    like = is_mne(y) or (len(getattr(y, "shape", ())) > 1 and y.shape == getattr(X, "shape", None))
    require(not like, "y", type(y).__name__, "is not used; give the clean recordings as clean=…")


def as_windows(X: Any) -> Any:
    """Return an array `(n_epochs, n_channels, n_times)` as windows, and any other thing as it is, but nothing masked."""
    require(not np.ma.is_masked(X), "X", "a masked array", "must have no masked entry: fill them or drop their windows")
    return np.asarray(X).reshape(-1, X.shape[-1]) if is_epochs(X) else X


def as_it_came(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """Let scikit-learn's `set_output` make tables of windows only: MNE objects, of which there is one, and arrays of epochs come back as they are."""
    plain_method = getattr(wrapped, "__wrapped__", wrapped)

    @functools.wraps(plain_method)
    def method(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        single = hasattr(X, "info") or not is_mne(X)
        require(single, "X", type(X).__name__, "must be one Raw, Epochs or Evoked, not a sequence")
        call = plain_method if is_mne(X) or is_epochs(X) else wrapped
        return call(self, X, *args, **options)

    return method


def same_rate(a: float, b: float) -> bool:
    """Tell whether two sampling rates are one, but for how files keep it."""
    return abs(a - b) <= RATE_TOLERANCE * b


def open_recordings(
    X: Any, beside: Any, width: Callable[[float], int], reject_by_annotation: bool, like: Recordings | None = None
) -> Recordings:
    """Check one MNE object or several and open them: channels in one order, without those that are bad here or in `beside`.

    `width` gives the samples of a window for a sampling rate in Hz. With `reject_by_annotation` what is annotated as bad in
    either is left out, and joined recordings are cut at their seams. Rate and channels are those of `like`, what was
    opened before; by default those of the first recording. Raises ConfigError.
    """
    recordings, others = ([one] if hasattr(one, "info") else list(one) for one in (X, beside))
    given = f"{len(others)} for {len(recordings)}"
    require(len(recordings) == len(others), "clean", given, "must be as many recordings as X")
    names, rate = (like.names, like.rate) if like else (eeg_names(recordings[0]), float(recordings[0].info["sfreq"]))
    signals = []
    for one, other in zip(recordings, others, strict=True):
        its_names, its_rate = eeg_names(one), float(one.info["sfreq"])
        alike = f"all recordings must be sampled alike, the first at {rate:.10g} Hz: resample this one"
        require(same_rate(its_rate, rate), "sfreq", its_rate, alike)
        require(set(its_names) == set(names), "channels", its_names, f"must be {names} in all recordings")
        good = [name for name in names if name not in {*one.info["bads"], *other.info["bads"]}]
        require(bool(good), "channels", names, "at least one must not be marked bad")
        spans = _good_spans(one, other, width(rate)) if reject_by_annotation else [slice(0, len(one.times))]
        check(one, good_names(one), width(rate), spans)
        found = data(one, good).reshape(-1, len(one.times))
        signals += [found[:, span] for span in spans]
    return Recordings(rate, names, signals)


def eeg_names(one: Any) -> list[str]:
    """Return the EEG channels of an object, the bad ones included; ConfigError if it is no MNE object, or has none."""
    mne = import_mne()
    kinds = mne.io.BaseRaw, mne.BaseEpochs, mne.Evoked
    allowed = "must be an array (n_windows, n_times) or (n_epochs, n_channels, n_times), Raw, Epochs or Evoked"
    require(isinstance(one, kinds), "X", type(one).__name__, allowed)
    names = [one.ch_names[i] for i in mne.pick_types(one.info, eeg=True, exclude=())]
    allowed = "at least one must be of type EEG: set_channel_types says which are"
    require(bool(names), "channels", one.ch_names, allowed)
    return names


def good_names(one: Any) -> list[str]:
    """Return the EEG channels of an object that are not marked bad."""
    return [name for name in eeg_names(one) if name not in one.info["bads"]]


def data(one: Any, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the signals of channels, in volts: `(n_channels, n_times)`, of epochs `(n_epochs, n_channels, n_times)`."""
    if not names:
        return np.zeros((0, len(one.times)))
    mne = import_mne()
    return one.get_data(picks=names, **({} if isinstance(one, mne.Evoked) else {"verbose": "ERROR"}))


def check(one: Any, names: Sequence[str], width: int, spans: Sequence[slice] | None = None) -> None:
    """Refuse recordings shorter than a window of `width` samples, flat or not finite in the spans, naming the channel (ConfigError)."""
    n_times = len(one.times)
    allowed = f"must be as long as a window, {width} samples, or longer; seconds is the length of a window"
    require(n_times >= width, "X", f"{n_times} samples", allowed)
    for name in names:
        x = data(one, [name])
        if spans is not None:
            x = np.concatenate([x[..., span] for span in spans], axis=-1)
        require(x.size > 0, "X", f"{type(one).__name__} without epochs", "must hold one at least")
        allowed = 'must be finite: annotate the span of a Raw as BAD_, or mark the channel in info["bads"]'
        require(bool(np.isfinite(x).all()), "X", f"channel {name!r} with NaN or Inf", allowed)
        allowed = 'must not be flat throughout: mark it in info["bads"], or drop it'
        require(bool(np.ptp(x) > 0), "X", f"channel {name!r}", allowed)
        if abs(x.mean()) > x.std():
            said = f"channel {name!r} has an offset larger than its fluctuations: high-pass it first"
            warnings.warn(said, stacklevel=4)


def _good_spans(one: Any, other: Any, width: int) -> list[slice]:
    """Return the stretches, a window or longer, of which neither recording says that they are bad."""
    good, edges = np.ones(len(one.times), dtype=bool), set()  # type: NDArray[np.bool_], set[int]
    for recording in (one, other):
        if isinstance(recording, import_mne().io.BaseRaw) and len(recording.times) == len(good):
            bad, seams = _annotated(recording)
            good &= ~bad
            edges |= set(seams)
    spans = [one for one in _stretches(good, edges) if one.stop - one.start >= width]
    allowed = f"must have a stretch of a window, {width} samples, that is not annotated as BAD; reject_by_annotation=False takes all"
    require(bool(spans) or len(good) < width, "X", f"{int(good.sum())} good samples", allowed)
    return spans or [slice(0, len(good))]


def to_denoise(one: Any, names: Sequence[str], width: int, reject_by_annotation: bool) -> list[slice]:
    """Check an object, and return its stretches, a window or longer, without samples of a Raw that are annotated as bad and not finite."""
    good = np.ones(len(one.times), dtype=bool)
    if reject_by_annotation and isinstance(one, import_mne().io.BaseRaw) and (bad := _annotated(one)[0]).any():
        good = ~bad | np.isfinite(data(one, names)).all(0)
    spans = _stretches(good)
    found = [span for span in spans if span.stop - span.start >= width]
    allowed = f"must be finite for a window, {width} samples"
    require(bool(found) or len(good) < width, "X", "a Raw annotated as BAD that is not finite there", allowed)
    check(one, names, width, spans)
    return found


def _stretches(good: NDArray[np.bool_], edges: Iterable[int] = ()) -> list[slice]:
    """Return where samples are good, one after the other, and between which edges."""
    changes = np.flatnonzero(np.diff(good)) + 1
    bounds = sorted({0, len(good), *edges, *changes.tolist()})
    return [slice(a, b) for a, b in itertools.pairwise(bounds) if good[a]]


def _annotated(raw: Any) -> tuple[NDArray[np.bool_], list[int]]:
    """Return which samples are annotated as bad, and where a recording was joined of several."""
    bad = np.zeros(len(raw.times), dtype=bool)
    notes = [one for one in raw.annotations if one["description"].upper().startswith(_BREAKS)]
    if not notes:
        return bad, []
    events, _ = import_mne().events_from_annotations(
        raw, lambda name: 1 if name.upper().startswith(_BREAKS) else None, regexp=None, verbose="ERROR"
    )
    starts = (events[:, 0] - raw.first_samp).tolist()
    for start, note in zip(starts, notes, strict=True):
        if note["description"].upper().startswith("BAD"):
            bad[max(start, 0) : max(start + round(note["duration"] * raw.info["sfreq"]), 0)] = True
    return bad, [start for start in starts if 0 < start < len(bad)]
