"""Random generators that belong to a seed and a purpose: no draw depends on what was drawn before elsewhere."""

import numpy as np
import torch


def generator(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of a seed and a stream of it (purpose, step, …), and of nothing else."""
    state = np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> 1))
