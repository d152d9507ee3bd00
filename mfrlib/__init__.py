"""Mutual Feature Regularization (arXiv 2411.01220) and end-to-end sparse autoencoders (arXiv 2405.12241)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfrlib.method.penalty import mutual_feature_penalty
    from mfrlib.method.reinit import inactivity
    from mfrlib.method.similarity import matched_cosine, mmcs
    from mfrlib.models.sae import SAEOutput, TopKSAE

__version__ = "0.1.0"
__all__ = ["SAEOutput", "TopKSAE", "inactivity", "matched_cosine", "mmcs", "mutual_feature_penalty"]

_MODULES = {"SAEOutput": "models.sae", "TopKSAE": "models.sae", "inactivity": "method.reinit", "matched_cosine": "method.similarity",
            "mmcs": "method.similarity", "mutual_feature_penalty": "method.penalty"}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is exported when it is first asked for: `mfr --help` and planning do without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
