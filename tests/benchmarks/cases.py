"""What is measured: the sizes, and the axes along which they grow. Imports no library: every environment reads it."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Case:
    """The size of a training step: `batch` samples of `d_in`, SAEs of `n_features`, `k` of them active (one number, or one each)."""

    size: str
    batch: int
    d_in: int
    n_features: int
    k: int | tuple[int, ...]
    n_saes: int = 1
    penalty: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Case":
        """Return the case whose fields came through JSON, where tuples turn into lists."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})

    @property
    def products(self) -> int:
        """Operations of the matrix products that remain when all else is sparse: the encoder's, once per SAE."""
        return 2 * self.batch * self.d_in * self.n_features * self.n_saes

    @property
    def parameters(self) -> int:
        """Numbers trained: dictionary and bias of every SAE."""
        return self.n_saes * self.n_features * (self.d_in + 1)

    @property
    def matching(self) -> int:
        """Operations of the products that hold every cosine between two SAEs of the stack, each pair once."""
        return self.n_saes * (self.n_saes - 1) * self.n_features**2 * self.d_in


@dataclass(frozen=True)
class Plan:
    """Everything one run of the benchmark measures."""

    sizes: tuple[Case, ...]
    n_saes: tuple[int, ...]
    five: Case
    base: Case
    axes: dict[str, tuple[int, ...]]
    squares: tuple[int, ...]
    memory: tuple[int, int]
    train_steps: int

    def steps(self, size: Case) -> list[Case]:
        """Return a size with each number of SAEs, the penalty off and, where there are two or more, on."""
        return [
            replace(size, n_saes=n_saes, penalty=penalty)
            for n_saes in self.n_saes
            for penalty in ((False, True) if n_saes > 1 else (False,))
        ]

    def along(self, axis: str) -> list[Case]:
        """Return the base case with every value of one axis."""
        return [replace(self.base, **{axis: value}) for value in self.axes[axis]]


S = Case("S", batch=10_000, d_in=256, n_features=512, k=36)  # the paper's synthetic experiment
G = Case("G", batch=500, d_in=768, n_features=3072, k=18)  # GPT-2 small
E = Case("E", batch=1024, d_in=250, n_features=4096, k=36)  # EEG windows

FULL = Plan(
    sizes=(S, G, E),
    n_saes=(1, 2, 5),
    five=replace(G, k=(6, 12, 18, 24, 30), n_saes=5),  # the paper's five SAEs on GPT-2
    base=Case("base", batch=2048, d_in=256, n_features=1024, k=32),
    axes={
        "n_features": tuple(2**power for power in range(8, 14)),
        "batch": tuple(2**power for power in range(8, 16)),
        "n_saes": (1, 2, 3, 5, 8),
    },
    squares=(1024, 2048, 4096),
    memory=(50, 500),
    train_steps=10,
)

_TINY = Case("T", batch=32, d_in=16, n_features=48, k=4)
TINY = Plan(
    sizes=(_TINY,),
    n_saes=(1, 2),
    five=replace(_TINY, k=(1, 2, 3), n_saes=3),
    base=_TINY,
    axes={"n_features": (48, 96), "batch": (16, 32), "n_saes": (1, 2)},
    squares=(32,),
    memory=(2, 4),
    train_steps=2,
)
PLANS = {"full": FULL, "tiny": TINY}
