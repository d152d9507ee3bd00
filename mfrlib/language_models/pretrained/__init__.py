"""Pretrained language models: what a name means, and the weights behind it."""
