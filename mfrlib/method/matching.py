"""The best matches between the dictionaries of a stack, searched only where they can have changed since the last time."""

import torch
from torch import Tensor

from mfrlib.models.kernels import native


class Matches:
    r"""For pairs (i, j) of a stack's SAEs: with which row of SAE j each row of SAE i has the largest cosine.

    Where the kernels certify (`mfrlib.models.kernels.compiled.certifies`) rows are searched in eight bits, and what can be the largest is
    scored in float32. Of each search the nearest rows and a bound on all other cosines are kept. Unit rows that moved by
    :math:`\delta` and :math:`\epsilon` since have a cosine that grew by no more than :math:`\delta + \epsilon`: a row
    whose match exceeds all bounds raised so is not searched again. Its match is that of a new search, to the bit,
    so that what is kept need not be saved with a checkpoint. Weights may change in any way between calls.

    Elsewhere the penalty searches in float32 every time (`mfrlib.method.similarity.best_match`), and this serves nothing.
    `asked` counts the rows matched so far, `searched` those of them that were searched.
    """

    def __init__(self) -> None:
        self.asked = self.searched = 0
        self._unit = torch.empty(0)
        self._way = torch.empty(0)  # how far each row has moved (sae, feature), float64
        self._farthest: list[float] = []  # of each SAE: the sum of the longest moves
        self._kept: dict[tuple[int, int], Tensor] = {}

    def update(self, weight: Tensor, norm: Tensor) -> Tensor:
        """Take the stack as it is now, `(sae, feature, d_in)` and its rows' lengths; return the unit rows.

        They are this object's own and change with the next call.
        """
        if self._unit.shape != weight.shape:
            self._unit, self._way = torch.zeros_like(weight), weight.new_zeros(weight.shape[:2], dtype=torch.float64)
            self._farthest, self._kept = [0.0] * len(weight), {}
        for sae, (rows, lengths) in enumerate(zip(weight, norm, strict=True)):
            self._farthest[sae] += native.move(rows, lengths, self._unit[sae], self._way[sae])
        return self._unit

    def rows(self, pairs: list[tuple[int, int]]) -> Tensor:
        """Return the matches `(pair, feature)` of the stack last seen."""
        n_features = self._unit.shape[1]
        found = self._unit.new_empty(len(pairs), n_features, dtype=torch.int64)
        packed = {j: native.pack(self._unit[j], bytes=True) for j in {j for _, j in pairs}}
        for (i, j), row in zip(pairs, found, strict=True):
            kept = self._kept.setdefault((i, j), native.memories(n_features))
            ways = self._way[i], self._way[j]
            self.searched += native.match(self._unit[i], self._unit[j], packed[j], ways, self._farthest[j], kept, row)
        self.asked += found.numel()
        return found
