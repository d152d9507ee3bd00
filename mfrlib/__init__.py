"""Mutual Feature Regularization (arXiv 2411.01220) and end-to-end sparse autoencoders (arXiv 2405.12241)."""

__version__ = "0.1.0"
