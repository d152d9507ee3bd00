"""Pairs of a noisy and a clean EEG window, in batches: every step cuts, mixes and scales anew."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfrlib.config import require
from mfrlib.data.batches import ALL_SHARDS, rows
from mfrlib.data.eeg.preprocessing import MAX_RATE
from mfrlib.data.eeg.shards import MemoryShard
from mfrlib.data.eeg.windows import EEGWindows
from mfrlib.data.in_memory import digest
from mfrlib.denoising import artefacts as known
from mfrlib.denoising.artefacts import KINDS, LOWEST_RATE, EyeMovements, Kind, courses

Signals = Sequence[NDArray[Any]]
"""Stretches of signals, `(n_signals, n_times)` each."""
TRAINING_PART = (0.0, 0.7)
"""Share of the recorded eye movements that training takes from; tests take from the rest."""


class Mixing(NamedTuple):
    """How training windows are mixed."""

    snr: tuple[float, float] = (-15.0, 10.0)
    """Lowest and highest signal-to-noise ratio in dB, even in between. Wider than in tests, where a recording's
    ratio hides windows and electrodes that are better or worse."""
    untouched: float = 0.1
    """Share of windows without an artefact, since a denoiser shall leave clean ones alone."""


MIXING = Mixing()


@dataclass(frozen=True, eq=False)
class Bank:
    """Courses of artefacts to cut from, `(n_sources, n_samples)` each."""

    sources: dict[Kind, NDArray[np.float32]]

    @classmethod
    def draw(cls, rate: float, seed: int, kinds: Sequence[Kind] = KINDS, eye_movements: EyeMovements | None = None,
             seconds: float = 240.0) -> "Bank":  # fmt: skip
        """Draw a bank for training, at a rate in Hz: as many seconds of every kind."""
        require(len(kinds) >= 1, "artefacts", kinds, "must be one or more")
        n = round(seconds * rate)
        found = {}
        for number, kind in enumerate(kinds):
            draws = np.random.default_rng([seed, number, 1])
            found[kind] = courses(kind, n, rate, draws, eye_movements, TRAINING_PART).astype(np.float32)
        return cls(found)

    @classmethod
    def of(cls, artefacts: str | Sequence[str], rate: float | None, seed: int, eye_movements: Any) -> "Bank | None":
        """Draw a bank of the artefacts named; None where there are none, or the sampling rate is not known.

        Recorded eye movements are a file's; by default those below `MFR_DATA`, and where there are none, simulated ones.
        Raises ConfigError if there is no such artefact or file, or the sampling rate is too low or too high for it.
        """
        wanted = list(artefacts) if isinstance(artefacts, Iterable) and not isinstance(artefacts, str) else [artefacts]
        for kind in wanted:
            require(kind in KINDS, "artefacts", kind, f"must be of {', '.join(KINDS)}, or artefacts=() for none")
        recorded = None if eye_movements is None else known.load_eye_movements(eye_movements)
        if rate is None or not wanted:
            return None
        allowed = f"must be {LOWEST_RATE} to {MAX_RATE} Hz to mix artefacts in: resample, or give artefacts=() to learn without any"
        require(LOWEST_RATE <= rate <= MAX_RATE, "sfreq", rate, allowed)
        if recorded is None and (path := known.default_eye_movements()):
            recorded = known.load_eye_movements(path)
        return cls.draw(rate, seed, [kind for kind in KINDS if kind in wanted], recorded)

    def cut(self, n: int, width: int, draws: np.random.Generator) -> NDArray[np.float32]:
        """Return n windows `(n, width)`, each of a kind drawn at random, its sources weighted at random."""
        kinds = list(self.sources.values())
        out = np.empty((n, width), np.float32)
        chosen = draws.integers(len(kinds), size=n)
        for number, sources in enumerate(kinds):
            mine = np.flatnonzero(chosen == number)
            starts = draws.integers(sources.shape[1] - width + 1, size=len(mine))
            weights = draws.standard_normal((len(mine), len(sources))).astype(np.float32)
            taken = sources[:, starts[:, None] + np.arange(width)]
            out[mine] = np.einsum("sbw,bs->bw", taken, weights / np.linalg.norm(weights, axis=1, keepdims=True))
        return out


@dataclass(frozen=True, eq=False)
class NoisyWindows:
    r"""Batches whose rows are a noisy window and, beside it, the clean one: `(batch, 2 · d_in)`.

    From each window of `clean`, `d_in` neighbouring samples are cut at a random place, and an artefact of the bank is added
    at a random signal-to-noise ratio (`mfrlib.denoising.artefacts`). Both halves are divided by the root mean square of the
    noisy one, which is all that a denoiser knows.

    Deviates: R17 z-scores every window. Here its mean stays, because a slow artefact shifts it.
    """

    clean: EEGWindows
    """Source of clean windows, longer than those that are cut from them."""
    d_in: int
    """Samples of a window, half a row, the width that an SAE takes."""
    bank: Bank | None
    """With None nothing is mixed in, and the halves are equal, as in the paper."""
    seed: int = 0
    mixing: Mixing = MIXING

    @classmethod
    def of(cls, clean: Signals, width: int, bank: Bank | None, batch_size: int, seed: int) -> "NoisyWindows":
        """Take clean signals of any length and unit, in stretches of four windows or as long as the shortest of them is."""
        length = min(4 * width, min(one.shape[1] for one in clean))
        long = _cut(clean, length, length)
        return cls(in_memory(long / _scale(long), batch_size, seed), width, bank, seed)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(1 <= self.d_in <= self.clean.d_in, "d_in", self.d_in, f"must be 1 to {self.clean.d_in}")
        low, high = self.mixing.snr
        require(bool(np.isfinite([low, high]).all()) and low <= high, "snr", (low, high), "must be finite, low to high")
        require(0 <= self.mixing.untouched < 1, "untouched", self.mixing.untouched, "must be from 0 to less than 1")

    @cached_property
    def id(self) -> str:
        """Identity of the clean data, and a hash of all that is mixed into them."""
        digest = hashlib.sha256(repr((self.d_in, self.seed, self.mixing)).encode())
        for kind, sources in self.bank.sources.items() if self.bank else ():
            digest.update(kind.encode() + np.ascontiguousarray(sources).tobytes())
        return f"{self.clean.id}:mixed={digest.hexdigest()[:16]}"

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the float32 batch of a step, `(batch, 2 · d_in)`: noisy, then clean; or some of its shards."""
        long, parts = self.clean.batch(step, shards).numpy(), []
        for shard in shards:
            mine, long = np.split(long, [len(rows(self.clean.batch_size, shard))])
            parts.append(self._pairs(mine, np.random.default_rng([self.seed, step, shard, 2])))
        return torch.from_numpy(np.concatenate(parts))

    def _pairs(self, long: NDArray[np.float32], draws: np.random.Generator) -> NDArray[Any]:
        n, width = len(long), self.d_in
        starts = draws.integers(long.shape[1] - width + 1, size=n)
        clean = np.take_along_axis(long, starts[:, None] + np.arange(width), axis=1)
        noisy = clean if self.bank is None else clean + self._noise(clean, self.bank.cut(n, width, draws), draws)
        return np.concatenate([noisy, clean], axis=1) / _scale(noisy)

    def _noise(self, clean: NDArray[Any], artefact: NDArray[Any], draws: np.random.Generator) -> NDArray[Any]:
        snr = draws.uniform(*self.mixing.snr, size=(len(clean), 1)).astype(np.float32)
        present = draws.random((len(clean), 1)) >= self.mixing.untouched
        # Between bursts an artefact is not blown up to the ratio of a burst; 1 is its size on the whole.
        size = np.maximum(root_mean_square(artefact), 0.3)
        return present * artefact * root_mean_square(clean) / size * 10 ** (-snr / 20)


class GivenPairs(NamedTuple):
    """Batches `(batch, 2 · d_in)` of pairs that somebody has: rows of noisy windows, each with its clean one."""

    id: str
    """Declared identity of the data."""
    d_in: int
    """Samples of a window, half a row."""
    batch: Callable[..., Tensor]
    """As of `NoisyWindows`."""

    @classmethod
    def of(cls, noisy: Signals, clean: Signals, width: int, batch_size: int, seed: int) -> "GivenPairs":
        """Cut pairs of signals into windows that overlap by half, scaled by the root mean square of the noisy one."""
        pairs = [_cut(one, width, max(1, width // 2)) for one in (noisy, clean)]
        whole = in_memory(np.concatenate(pairs, axis=1) / _scale(pairs[0]), batch_size, seed)
        return cls(whole.id, width, whole.batch)


def in_memory(windows: NDArray[Any], batch_size: int, seed: int) -> EEGWindows:
    """Return a source of windows `(n, d_in)` that are in memory, identified by their values and the seed of their order."""
    held = np.ascontiguousarray(windows, dtype=np.float32)
    identity = f"in-memory:{digest(torch.from_numpy(held))}:seed={seed}"
    return EEGWindows((MemoryShard("in memory", "in memory", held),), identity, windows.shape[1], batch_size, seed)


@np.errstate(over="ignore")
def root_mean_square(windows: NDArray[Any]) -> NDArray[Any]:
    """Return the root mean square of each row, `(n, 1)`, also where squares overflow or become 0."""
    size = np.sqrt(np.square(windows).mean(axis=1, keepdims=True))
    if (far := (size < 1e-15) | (size > 1e15)).any():
        unit = np.where(far & windows.any(axis=1, keepdims=True), np.abs(windows).max(axis=1, keepdims=True), 1)
        size = unit * np.sqrt(np.square(windows / unit).mean(axis=1, keepdims=True))
    return size


def _scale(windows: NDArray[Any]) -> NDArray[Any]:
    """Return what brings each row to unit root mean square, `(n, 1)`: 1 for one that is zero throughout."""
    size = root_mean_square(windows)
    return np.where(size > 0, size, 1)


def _cut(signals: Signals, width: int, hop: int) -> NDArray[Any]:
    """Cut signals into windows `(n_windows, width)`."""
    views = [np.lib.stride_tricks.sliding_window_view(one, width, axis=1)[:, ::hop] for one in signals]
    return np.concatenate([view.reshape(-1, width) for view in views])
