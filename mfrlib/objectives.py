"""What SAEs are trained for and measured by: reconstruction."""

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]


def reconstruction_loss(reconstruction: Tensor, x: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared error of each SAE, `(sae,)`: the mean over samples of :math:`\lVert x - \hat x \rVert_2^2` (paper §2.1).

    Parameters
    ----------
    reconstruction : Tensor (sae, batch, d_in)
    x : Tensor (batch, d_in)
    reduction : {"mean", "sum"}
        R12: over the elements of a sample. The mean (released code) is d_in times smaller than the sum (the formula),
        so a penalty of the same α weighs d_in times more.
    """
    mean = (reconstruction - x).square().mean(dim=(1, 2))
    return mean if reduction == "mean" else mean * x.shape[1]


class FVU:
    r"""Fraction of variance unexplained over a stream of batches.

    .. math:: \text{FVU} = \frac{\sum \lVert x - \hat x \rVert^2}{\sum \lVert x - \bar x \rVert^2}

    Sums over all samples and elements, not a mean of per-batch ratios; 1 is what the mean alone would give.
    """

    def __init__(self) -> None:
        self.n = 0
        self.error = self.total = self.squares = torch.zeros(())

    def update(self, reconstruction: Tensor, x: Tensor) -> None:
        """Add a batch: `reconstruction (sae, batch, d_in)` of `x (batch, d_in)`."""
        self.n += len(x)
        self.error = self.error + (reconstruction - x).double().square().sum(dim=(1, 2))
        self.total = self.total + x.double().sum(0)
        self.squares = self.squares + x.double().square().sum()

    def value(self) -> Tensor:
        """Return the FVU of each SAE, `(sae,)`."""
        return self.error / (self.squares - self.total.square().sum() / self.n)
