"""What changes while training: the weights and the optimiser's step on them, α, re-initialisations, records."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from mfrlib.config import require
from mfrlib.method.matching import Matches
from mfrlib.method.penalty import mutual_feature_penalty
from mfrlib.method.reinit import Reinitializer
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.models.sae import TopKSAE
from mfrlib.randomness import RESTART, generator
from mfrlib.training.parallel import Team
from mfrlib.training.revival import Revival


class TrainingState:
    """Everything that changes while training: weights, optimiser, α, re-initialisations, records, the step."""

    def __init__(self, sae: TopKSAE | ReLUSAE, config: Any, team: Team | None = None) -> None:
        learns = all(one.requires_grad and one.is_contiguous() for one in sae.parameters())
        allowed = f"new_stack must give {config.n_saes} SAEs whose parameters are contiguous and require gradients"
        require(learns and len(sae) == config.n_saes, "config", sae, allowed)
        self.sae, self.config, self.team = sae, config, team or Team()
        self.step, self.alpha, self.metrics = 0, None, []  # type: int, float | None, list[dict[str, Any]]
        self.seen: str | None = None  # hash of the rows trained on, where only that says which they are
        self.reinitializer = Reinitializer(
            config.n_saes, config.reinit, config.reinit_threshold, config.reinit_window, config.reinit_limit
        )
        self.revival = Revival(config, self.team, sae) if config.revival else None  # type: ignore[arg-type]
        self.matches = Matches()  # spares searches; it need not outlive this process
        # Each SAE's slice of a parameter is one to the optimiser (same storage), so that its state, step count
        # included, can be reset alone.
        numbered = [(name, its, one) for name, its in sae.named_parameters() for one in range(config.n_saes)]
        self.slices = {(name, one): nn.Parameter(its.data[one]) for name, its, one in numbered}
        self.moments: dict[Tensor, dict[str, Tensor]] = {}  # Adam's, and its count of steps, from the first on
        self.decay = config.weight_decay if config.optimizer == "adamw" else 0.0

    def penalty(self) -> Tensor:
        """Return the mutual feature penalty of the stack as it is, or this process's part of it."""
        part = self.team.rank, self.team.size
        return mutual_feature_penalty(self.sae.weight, self.config.matching, self.config.direction, part, self.matches)

    def moments_of(self, part: Tensor) -> dict[str, Tensor]:
        """Return Adam's moments of a slice and its count of steps, zeros at first."""
        if part not in self.moments:
            zeros = {name: torch.zeros_like(part) for name in ("exp_avg", "exp_avg_sq")}
            self.moments[part] = zeros | {"step": torch.zeros((), dtype=torch.float32, device=part.device)}
        return self.moments[part]

    def optimizer_step(self, gradients: Iterable[Tensor], rate: float, skip: Tensor | None = None) -> None:
        """Take one step at a learning rate along the gradients of all parameters; none where the flag `skip` is 1."""
        parts: list[Tensor] = list(self.slices.values())
        with torch.no_grad():
            kept = [self.moments_of(part) for part in parts]
            # `torch.optim.AdamW` would import PyTorch's compiler, for a second. Nothing waits for the flag: it is read on the device.
            adam(parts, [gradient[one] for gradient in gradients for one in range(self.config.n_saes)], [one["exp_avg"] for one in kept],
                 [one["exp_avg_sq"] for one in kept], [], [one["step"] for one in kept], fused=True, found_inf=skip, lr=rate, beta1=0.9,
                 beta2=0.999, eps=1e-8, decoupled_weight_decay=True, weight_decay=self.decay, amsgrad=False, maximize=False)  # fmt: skip

    def reinitialize(self, one: int) -> None:
        """Give one SAE fresh weights and a fresh optimiser state."""
        life = sum(sae == one for _, sae in self.reinitializer.events)
        self.sae.reinitialize(one, generator(self.config.seed, RESTART, one, life))
        if self.revival:
            self.revival.silent[one] = 0
        for (_, sae), part in self.slices.items():
            if sae == one:
                self.moments.pop(part, None)
