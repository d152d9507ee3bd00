"""Mutual Feature Regularization (arXiv 2411.01220) and end-to-end sparse autoencoders (arXiv 2405.12241)."""

from mfrlib.penalty import mutual_feature_penalty
from mfrlib.reinit import inactivity
from mfrlib.sae import SAEOutput, TopKSAE
from mfrlib.similarity import matched_cosine, mmcs

__version__ = "0.1.0"
__all__ = ["SAEOutput", "TopKSAE", "inactivity", "matched_cosine", "mmcs", "mutual_feature_penalty"]
