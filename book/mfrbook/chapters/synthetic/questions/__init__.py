"""Questions about synthetic data that the paper leaves open."""
