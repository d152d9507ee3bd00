"""Sparse autoencoders: TopK and ReLU, their sparse products, their losses."""
