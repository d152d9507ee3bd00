"""A stack of SAEs as a denoiser: what it is trained for, and how it takes windows and long signals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfrlib.config import require
from mfrlib.denoising.noisy_windows import root_mean_square
from mfrlib.models.objectives import reconstruction_loss
from mfrlib.models.sae import SAEOutput, TopKSAE

Windows = NDArray[Any]
BLOCK = 4096  # windows at a time


def denoising_loss(sae: TopKSAE, pairs: Tensor) -> tuple[Tensor, SAEOutput]:
    r"""Return :math:`\lVert \hat x(y) - x \rVert^2 / d` of each SAE, a mean over the batch `(sae,)`, and the codes.

    The objective for `mfrlib.training.loop.train` with batches of `mfrlib.denoising.noisy_windows`, `pairs (batch, 2 · d_in)`:
    noisy windows y and, beside them, clean ones x. Where both halves are equal this is reconstruction, as in the paper.
    """
    noisy, clean = pairs.chunk(2, dim=1)
    output = sae(noisy.contiguous())
    return reconstruction_loss(output.reconstruction, clean), output


@torch.no_grad()
def estimates(sae: TopKSAE, windows: Windows) -> Windows:
    """Return what each SAE makes of windows, `(sae, n, d_in)`, in the windows' own unit.

    Windows go through at unit root mean square, as in training; one that is zero throughout comes back as zero.
    """
    size = root_mean_square(windows)
    scaled = torch.from_numpy(windows / np.where(size > 0, size, 1)).to(sae.weight.device, sae.weight.dtype)
    parts = [sae(part).reconstruction.cpu().numpy() for part in scaled.split(BLOCK)]
    return np.concatenate(parts, axis=1).astype(windows.dtype, copy=False) * size


def overlap_add(signals: Windows, width: int, denoise: Callable[[Windows], Windows], overlap: float = 0.5) -> Windows:
    r"""Denoise long signals by overlapping windows, so that no edge of a window shows.

    .. math:: \hat x(t) = \frac{\sum_i w(t - t_i)\, \hat x_i(t - t_i)}{\sum_i w(t - t_i)}, \qquad
        w(j) = \sin^2\!\big(\pi (j + \tfrac12) / n\big)

    Each estimate counts most in the middle of its window, and next to nothing at its ends. What gives every window back
    as it is gives the signal back, to rounding. The last window ends with the signal, whatever its length.

    `signals (n_signals, n_times)` must have `width` samples n of a window or more. `denoise` makes estimates `(…, m, width)` of
    windows `(m, width)`; what is returned, `(…, n_signals, n_times)`, keeps leading axes. `overlap` is the share of a window that
    the next one covers, from 0 to less than 1. ConfigError for other lengths and overlaps.
    """
    n_signals, n_times = signals.shape
    allowed = f"must be as long as a window, {width} samples, or longer"
    require(n_times >= width, "signals", f"{n_times} samples", allowed)
    require(0 <= overlap < 1, "overlap", overlap, "must be from 0 to less than 1")
    hop = max(1, round(width * (1 - overlap)))
    starts = np.unique(np.append(np.arange(0, n_times - width + 1, hop), n_times - width))
    weight = np.sin(np.pi * (np.arange(width) + 0.5) / width) ** 2
    total = np.zeros(n_times)
    for start in starts:
        total[start : start + width] += weight
    at_once = max(1, BLOCK // len(starts))
    blocks = []
    for first in range(0, n_signals, at_once):
        rows = signals[first : first + at_once]
        cut = np.lib.stride_tricks.sliding_window_view(rows, width, axis=1)[:, starts]
        found = denoise(cut.reshape(-1, width))
        found = found.reshape(*found.shape[:-2], len(rows), len(starts), width) * weight
        out = np.zeros((*found.shape[:-2], n_times))
        for number, start in enumerate(starts):
            out[..., start : start + width] += found[..., number, :]
        blocks.append(out / total)
    return np.concatenate(blocks, axis=-2).astype(signals.dtype, copy=False)
