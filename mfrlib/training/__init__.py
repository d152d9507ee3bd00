"""The training loop of a stack of SAEs, its checkpoints, and several processes at once."""
