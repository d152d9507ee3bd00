"""Mutual Feature Regularization (arXiv 2411.01220) and end-to-end sparse autoencoders (arXiv 2405.12241)."""

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfrlib import export
    from mfrlib.data.in_memory import TensorBatches
    from mfrlib.denoising.estimator import EEGDenoiser
    from mfrlib.language_models.language_model import LanguageModel
    from mfrlib.method.evaluation import evaluate
    from mfrlib.method.penalty import mutual_feature_penalty
    from mfrlib.method.reinit import inactivity
    from mfrlib.method.similarity import matched_cosine, mmcs
    from mfrlib.models.foreign import load_foreign
    from mfrlib.models.relu_sae import ReLUSAE
    from mfrlib.models.sae import SAEOutput, TopKSAE
    from mfrlib.models.saved import load
    from mfrlib.training.config import TrainingConfig
    from mfrlib.training.loop import train

__version__ = "0.1.0"
__all__ = ["EEGDenoiser", "LanguageModel", "ReLUSAE", "SAEOutput", "TensorBatches", "TopKSAE", "TrainingConfig", "evaluate", "export", "inactivity",
           "load", "load_foreign", "matched_cosine", "mmcs", "mutual_feature_penalty", "train"]  # fmt: skip
if importlib.util.find_spec("sklearn") is None:  # the extra eeg, without which `from mfrlib import *` gives the others
    __all__.remove("EEGDenoiser")

_MODULES = {"EEGDenoiser": "denoising.estimator", "LanguageModel": "language_models.language_model", "ReLUSAE": "models.relu_sae", "SAEOutput": "models.sae",
            "TensorBatches": "data.in_memory", "TopKSAE": "models.sae", "TrainingConfig": "training.config", "evaluate": "method.evaluation",
            "inactivity": "method.reinit", "load": "models.saved", "load_foreign": "models.foreign", "matched_cosine": "method.similarity",
            "mmcs": "method.similarity", "mutual_feature_penalty": "method.penalty", "train": "training.loop"}  # fmt: skip


if not TYPE_CHECKING:  # or a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        """Import what is exported when it is first asked for: `mfr --help` and planning do without torch."""
        if name == "export":
            return importlib.import_module(f"{__name__}.export")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
