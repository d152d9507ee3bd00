"""The compiled kernels: products, searches and sums of sparse codes on a CPU."""
