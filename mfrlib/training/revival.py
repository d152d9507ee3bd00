"""Revival of dead features by an auxiliary loss (AuxK; Gao et al. 2024, arXiv 2406.04093, Section 2.4 and Appendix A.2)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mfrlib.models.sae import TopKSAE
from mfrlib.models.sparse import Error
from mfrlib.models.stack import activation_counts
from mfrlib.training.parallel import Team


class Revival:
    r"""An objective: reconstruction, and the dead features learn to explain what it leaves over.

    .. math:: \mathcal L + \lambda \lVert e - \hat e \rVert^2, \qquad e = x - \hat x, \qquad \hat e = D^\top z

    with :math:`z` the `revival_k` largest pre-activations among the dead features, negative ones cut off, and no gradient through
    :math:`e`. Both terms have the same reduction. A feature is dead that was active on none of the last `revival_after` samples.
    The loss returned has the value of :math:`\mathcal L`, so that records compare, and the gradient of the sum.

    `silent (sae, feature)`, int64, counts samples since each feature was active.

    Deviates: Gao et al.'s code divides each term by the variance of its target; here both are as the formula has them.
    """

    def __init__(self, config: Any, team: Team, sae: TopKSAE) -> None:
        self.config, self.team = config, team
        self.silent = torch.zeros(sae.weight.shape[:2], dtype=torch.int64, device=sae.weight.device)

    def __call__(self, sae: TopKSAE, x: Tensor) -> tuple[Tensor, Error]:
        """Return the loss of each SAE, `(sae,)`, and the codes."""
        factor = 1 / (x.numel() if self.config.reduction == "mean" else len(x))
        found = sae.squared_error(x, factor)
        with torch.no_grad():
            counts = activation_counts(found, sae.weight.shape[1])
            self.team.sum_(counts)
            self.silent = torch.where(counts > 0, 0, self.silent + self.config.batch_size)
            left = x - sae.decode(found.values, found.indices)
        dead = (rows.nonzero().flatten() for rows in self.silent >= self.config.revival_after)
        extra = torch.stack([self._unexplained(sae, one, rows, x, left[one]) for one, rows in enumerate(dead)])
        extra = self.config.revival * factor * extra
        return found.error + (extra - extra.detach()), found

    def _unexplained(self, sae: TopKSAE, one: int, dead: Tensor, x: Tensor, left: Tensor) -> Tensor:
        """Return :math:`\\lVert e - \\hat e \\rVert^2` of one SAE, summed over a batch; 0 where no feature is dead."""
        if not len(dead):
            return x.new_zeros(())
        weight, shift = sae.weight[one, dead], 0 if sae.decoder_bias is None else sae.decoder_bias[one]
        top = ((x - shift) @ weight.T + sae.bias[one, dead]).topk(min(self.config.revival_k, len(dead)), sorted=False)
        z = x.new_zeros(len(x), len(dead)).scatter(1, top.indices, top.values.relu())
        return (left - z @ (normalize(weight, dim=-1) if sae.decoder_form == "normalized" else weight)).square().sum()
