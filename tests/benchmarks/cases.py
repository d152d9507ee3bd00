"""What is measured: the sizes, and the axes along which they grow. Imports nothing, so every environment reads it."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Case:
    """One training step's size: `batch` samples of `d_in`, SAEs of `n_features`, `k` active (one for all, or each)."""

    name: str
    batch: int
    d_in: int
    n_features: int
    k: int | tuple[int, ...]
    n_saes: int = 1
    penalty: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


SIZES = {
    "S": Case("S", batch=10_000, d_in=256, n_features=512, k=36),  # the paper's synthetic experiment
    "G": Case("G", batch=500, d_in=768, n_features=3072, k=18),  # GPT-2 small
    "E": Case("E", batch=1024, d_in=250, n_features=4096, k=36),  # EEG windows
}
FIVE = replace(SIZES["G"], name="G5", k=(6, 12, 18, 24, 30), n_saes=5)  # the paper's five SAEs on GPT-2
TINY = {"T": Case("T", batch=16, d_in=8, n_features=16, k=2)}

BASE = Case("scaling", batch=2048, d_in=256, n_features=1024, k=32)
AXES = {
    "n_features": [2**power for power in range(8, 14)],
    "batch": [2**power for power in range(8, 16)],
    "n_saes": [1, 2, 3, 5, 8],
}


def steps(sizes: dict[str, Case]) -> list[Case]:
    """Return every size with one, two and five SAEs, the penalty off and, where there are two, on."""
    return [
        replace(size, n_saes=n_saes, penalty=penalty)
        for size in sizes.values()
        for n_saes in (1, 2, 5)
        for penalty in ((False, True) if n_saes > 1 else (False,))
    ]


def scaling(axis: str, values: list[int] | None = None) -> list[Case]:
    """Return the cases along one axis, the others at their base."""
    return [replace(BASE, **{axis: value}) for value in values or AXES[axis]]
