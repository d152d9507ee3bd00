"""How errors are spread over samples: a median, and how much of the error the largest samples make, from streams of any length."""

import torch
from torch import Tensor

LOWEST, HIGHEST, BINS = -12.0, 12.0, 6000
"""Decades that the histograms cover, and how many bins they have. A bin is 0.9 % wide, and a quantile is off by no more. Squared
lengths are binned as they are where those of the first batch are about in the middle, and relative to these otherwise."""
LARGEST = 0.01


class ErrorSpread:
    r"""Histograms, filled batch by batch, of each SAE's relative squared error of a sample and of the samples' lengths.

    .. math:: e = \frac{\lVert \hat x - x \rVert^2}{\lVert x \rVert^2}

    A mean of :math:`\lVert \hat x - x \rVert^2`, which FVU and the loss are, may be made by a few long samples; a median
    of :math:`e` is not.
    """

    def __init__(self, n_saes: int) -> None:
        self.relative = torch.zeros(n_saes, BINS, dtype=torch.float64)
        self.samples = torch.zeros(BINS, dtype=torch.float64)
        self.errors = torch.zeros(n_saes, BINS, dtype=torch.float64)
        self.unit: float | None = None  # decade in the middle of the lengths' bins

    def update(self, reconstruction: Tensor, x: Tensor) -> None:
        """Add a batch: reconstructions `(sae, batch, d_in)` of `x (batch, d_in)`."""
        length = x.double().square().sum(-1)
        error = (reconstruction - x).double().square().sum(-1)
        if self.unit is None and length.any():
            typical = length[length > 0].log10().median().item()
            self.unit = 0.0 if LOWEST / 2 < typical < HIGHEST / 2 else typical
        at = _bin(length, self.unit or 0.0)
        self.samples.index_add_(0, at, torch.ones_like(length))
        self.errors.index_add_(1, at, error)
        self.relative.scatter_add_(1, _bin(error / length.clamp(min=1e-300)), torch.ones_like(error))

    def median(self) -> Tensor:
        """Return the median relative squared error of each SAE, `(sae,)`; inf where it is 1e12 or more, as on samples that are zero."""
        reached = self.relative.cumsum(1) >= self.relative.sum(1, keepdim=True) / 2
        at = reached.double().argmax(1)
        return torch.where(at == BINS - 1, torch.inf, 10 ** (LOWEST + (at + 0.5) * (HIGHEST - LOWEST) / BINS))

    def share_of_largest(self) -> Tensor:
        """Return how much of each SAE's squared error the longest samples make, `(sae,)`: as many as are `LARGEST` of all."""
        wanted = LARGEST * self.samples.sum()
        above = self.samples.flip(0).cumsum(0).flip(0) - self.samples  # samples in longer bins
        part = ((wanted - above) / self.samples.clamp(min=1)).clamp(0, 1)  # of the bin at the limit, a part
        return (self.errors * part).sum(1) / self.errors.sum(1).clamp(min=1e-300)


def _bin(values: Tensor, unit: float = 0.0) -> Tensor:
    decade = values.clamp(min=1e-300).log10() - unit
    return ((decade - LOWEST) / (HIGHEST - LOWEST) * BINS).long().clamp(0, BINS - 1)
