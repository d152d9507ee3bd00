"""How errors are spread over samples: a median, and how much of the error the largest samples make, from streams of any length."""

import torch
from torch import Tensor

LOWEST, HIGHEST, BINS = -12.0, 12.0, 6000
"""Decades that the histograms cover, and how many bins they have. A bin is 0.9 % wide, and a quantile is off by no more."""
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

    def update(self, reconstruction: Tensor, x: Tensor) -> None:
        """Add a batch: reconstructions `(sae, batch, d_in)` of `x (batch, d_in)`."""
        length = x.double().square().sum(-1)
        error = (reconstruction - x).double().square().sum(-1)
        at = _bin(length)
        self.samples.index_add_(0, at, torch.ones_like(length))
        self.errors.index_add_(1, at, error)
        self.relative.scatter_add_(1, _bin(error / length.clamp(min=1e-30)), torch.ones_like(error))

    def median(self) -> Tensor:
        """Return the median relative squared error of each SAE, `(sae,)`."""
        reached = self.relative.cumsum(1) >= self.relative.sum(1, keepdim=True) / 2
        centre = LOWEST + (reached.double().argmax(1) + 0.5) * (HIGHEST - LOWEST) / BINS
        return 10**centre

    def share_of_largest(self, share: float = LARGEST) -> Tensor:
        """Return how much of each SAE's squared error the longest samples make, `(sae,)`: as many as are `share` of all."""
        wanted = share * self.samples.sum()
        above = self.samples.flip(0).cumsum(0).flip(0) - self.samples  # samples in longer bins
        part = ((wanted - above) / self.samples.clamp(min=1)).clamp(0, 1)  # of the bin at the limit, a part
        return (self.errors * part).sum(1) / self.errors.sum(1).clamp(min=1e-300)


def _bin(values: Tensor) -> Tensor:
    decade = values.clamp(min=1e-300).log10()
    return ((decade - LOWEST) / (HIGHEST - LOWEST) * BINS).long().clamp(0, BINS - 1)
