"""Conditional re-initialisation (paper §3.3): the inactivity statistic, and when it sends an SAE back to the start."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from mfrlib.config import checked, require

Mode = Literal["off", "window", "always"]


class ReinitLimitError(RuntimeError):
    """An SAE was re-initialised as often as allowed and is still above the threshold."""


def inactivity(rates: Tensor, k: int | Sequence[int] | Tensor | None = None, power: int = 1) -> Tensor:
    r"""Return how unevenly features are used, `(...)`: the mean relative deviation of their activation rates from even use (paper, Figure 6).

    .. math:: \frac1n \sum_{i=1}^{n} \left( \frac{|r_i - k/n|}{k/n} \right)^p

    Deviates: the paper prints pre-activations Wx. The released code uses activation rates, and so does this function (R10).

    0 where every feature is active on k/n of the samples; a dead feature adds 1/n; nearly 2 where k features do everything (p = 1).

    Parameters
    ----------
    rates : Tensor (..., feature)
        Share of samples for which each feature is active.
    k : int, or one per SAE, or None
        Active features per sample; None: as many as are on average, for SAEs without a k.
    power : int
        p: 1 in the paper, 3 in the released code's last state (R10).

    Raises
    ------
    TypeError
        If the rates are no floating-point tensor.
    ValueError
        If there are more or fewer k than SAEs; ConfigError if one is no number above 0.

    Examples
    --------
    One of four features does all the work of k = 1:

    >>> import torch
    >>> from mfrlib.method.reinit import inactivity
    >>> float(inactivity(torch.tensor([1.0, 0.0, 0.0, 0.0]), k=1))
    1.5
    """
    if not isinstance(rates, Tensor) or not rates.is_floating_point() or rates.ndim == 0:
        given = f"{rates.dtype} {tuple(rates.shape)}" if isinstance(rates, Tensor) else type(rates).__name__
        raise TypeError(f"rates: a floating-point tensor (…, feature), given {given}; torch.as_tensor(x) makes one")
    numbers: Any = () if k is None else checked({"k": k}, {"k": float | tuple[float, ...]})["k"]
    positive = all(one > 0 for one in (numbers if isinstance(numbers, tuple) else [numbers]))
    require(positive, "k", numbers, "must be more than 0")
    even = rates.sum(-1) if k is None else torch.as_tensor(k, dtype=rates.dtype, device=rates.device)
    if even.ndim > 0 and even.shape != rates.shape[:-1]:
        raise ValueError(f"k: one number, or one for each SAE {tuple(rates.shape[:-1])}, given {tuple(even.shape)}")
    target = (even.unsqueeze(-1) / rates.shape[-1]).clamp(min=torch.finfo(rates.dtype).tiny)
    return ((rates - target).abs() / target).pow(power).mean(-1)


class Reinitializer:
    """Decides which SAEs of a stack start again: those whose inactivity exceeds the threshold (R10c), up to `limit` times each.

    R10b: `mode` says when they are looked at, never ("off"), within `window` steps of their last start, or always.
    """

    def __init__(self, n_saes: int, mode: Mode, threshold: float, window: int, limit: int) -> None:
        self.mode, self.threshold, self.window, self.limit = mode, threshold, window, limit
        self.born = [0] * n_saes  # first step of each SAE's present life
        self.events: list[tuple[int, int]] = []  # (step, sae)

    def watches(self, step: int) -> bool:
        """Tell whether the inactivity at a step can decide anything."""
        return any(self._looks_at(sae, step) for sae in range(len(self.born)))

    def _looks_at(self, sae: int, step: int) -> bool:
        return self.mode == "always" or (self.mode == "window" and step - self.born[sae] < self.window)

    def due(self, step: int, statistic: Sequence[float]) -> list[int]:
        """Return the SAEs to re-initialise after `step`, given each one's inactivity in that step's batch.

        Raises ReinitLimitError if one of them has used up its re-initialisations.
        """
        found = [one for one, value in enumerate(statistic) if value > self.threshold and self._looks_at(one, step)]
        for sae in found:
            if sum(one == sae for _, one in self.events) >= self.limit:
                raise ReinitLimitError(
                    f"SAE {sae} was re-initialised {self.limit} times and its inactivity, {statistic[sae]:.3g} at step "
                    f"{step}, still exceeds reinit_threshold = {self.threshold:g}: every start looks bad under this "
                    f"threshold. Raise reinit_threshold, or set reinit=off."
                )
            self.events.append((step, sae))
            self.born[sae] = step + 1
        return found

    def state(self) -> dict[str, list]:
        """Return what a checkpoint keeps."""
        return {"born": self.born, "events": [list(event) for event in self.events]}

    def restore(self, state: dict[str, list]) -> None:
        """Go on from a checkpoint's state."""
        self.born, self.events = list(state["born"]), [(step, sae) for step, sae in state["events"]]
