"""Random generators that belong to a seed and a purpose: no draw depends on what was drawn before elsewhere."""

import numpy as np
import torch


def generator(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of a seed and a stream of it (purpose, step, …), and of nothing else.

    On a CPU the generator keeps 32 bits of its seed: of the 80,000 shards of a run of the paper's size, one or a few pairs
    are the same.
    """
    state = np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> 1))
