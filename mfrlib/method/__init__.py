"""Mutual Feature Regularization: similarity of dictionaries, the penalty, re-initialisation, and what is measured."""
