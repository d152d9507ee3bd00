"""Random generators that belong to a seed and a purpose: no draw depends on what was drawn before elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from mfrlib.config import whole

# Streams of a seed. Every run is drawn from them: no number may change, or serve another purpose. The companion has 31 to 49, 61
# and 62; its 61 draws otherwise than `ROWS`, behind which an epoch stands, and stands alone. Windows of EEG and artefacts draw from NumPy's generators instead (`data.eeg.windows`, `denoising.noisy_windows`).
WEIGHTS, RESTART = 1, 2  # of SAEs at first, and started again
FEATURES, SUPPORTS, SAMPLES, HELD_OUT, MEAN = 11, 12, 13, 14, 15  # synthetic data
SEQUENCES, TOKENS, TOKEN_SEQUENCES = 21, 22, 25  # orders of activations, within a stretch and of text
ROWS = 61  # order of a tensor's rows


def generator(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of a seed and a stream of it (purpose, step, …), and of nothing else.

    On a CPU the generator keeps 32 bits of its seed: of the 80,000 shards of a run of the paper's size, one or a few pairs
    are the same.
    """
    return torch.Generator(device).manual_seed(seed_of(seed, *stream))


def seed_of(seed: int, *stream: int) -> int:
    """Return the number that `generator` seeds PyTorch's with."""
    return int(np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def usual_defaults(dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Make new tensors in one type on the CPU, whatever defaults the caller has set: what is drawn depends on them."""
    device, own = torch.get_default_device(), object()
    with _types_lock:
        _types.setdefault(None, torch.get_default_dtype())
        _types[own] = dtype
        torch.set_default_dtype(dtype)
    try:
        with nullcontext() if device.type == "cpu" else torch.device("cpu"):
            yield
    finally:
        with _types_lock:
            del _types[own]
            torch.set_default_dtype([*_types.values()][-1])
            if len(_types) == 1:
                _types.clear()


_types_lock = threading.Lock()
_types: dict[object, torch.dtype] = {}
"""The caller's default type, under None, then that of each block of `usual_defaults` still open: all threads share one default."""


class Orders:
    """Permutations of n places, one for each epoch of a seed; those of an epoch and of the one before are kept."""

    def __init__(self, n: int, seed: int, stream: int) -> None:
        self.n, self.seed, self.stream = n, whole("seed", seed, 0), stream
        self._kept: dict[int, torch.Tensor] = {}

    def __getitem__(self, epoch: int) -> torch.Tensor:
        """Return the permutation of an epoch, int64 `(n,)`."""
        if epoch not in self._kept:
            self._kept = {one: order for one, order in self._kept.items() if one == epoch - 1}
            self._kept[epoch] = torch.randperm(self.n, generator=generator(self.seed, self.stream, epoch))
        return self._kept[epoch]

    def at(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the places at positions of the endless row of the epochs' permutations, both int64."""
        epochs, places = positions // self.n, torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            places[here] = self[epoch][positions[here] % self.n]
        return places
