"""Synthetic data with known features (paper §3.1), generated batch by batch from a seed."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfrlib.config import option, require, require_types, whole
from mfrlib.data.batches import ALL_SHARDS, rows
from mfrlib.models.kernels import compiled, native
from mfrlib.randomness import FEATURES, HELD_OUT, MEAN, SAMPLES, SUPPORTS, generator, seed_of, usual_defaults


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """The distribution of the data; the defaults have one active group of 36 features (R1)."""

    n_input_features: int = option(512, "G, features the data are made of (§3.2)")
    d_in: int = option(256, "d, dimensions of a sample (§3.2)")
    n_groups: int = option(12, "E, groups of features (§3.2)")
    n_active_groups: int = option(1, "groups active in a sample: 1, or all (R1)")
    n_active: int = option(36, "features active in each active group of a sample (R1)")
    decay: float = option(0.99, "λ, a feature's odds fall by this factor with its index (§3.2)")
    floor_groups: bool = option(False, "groups of floor(G/E): the features left over are never active (R2)")
    support_rows: int = option(0, "samples that share one support per group; 0: each draws afresh (R1)")
    center: bool = option(False, "subtract the mean of the data (Q9)")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_types(self)
        for name in ("d_in", "n_groups", "n_active_groups", "n_active"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")
        allowed = f"G must exceed d_in = {self.d_in}: features are superposed"
        require(self.n_input_features > self.d_in, "n_input_features", self.n_input_features, allowed)
        require(self.n_groups <= self.n_input_features, "n_groups", self.n_groups, "at most n_input_features")
        allowed = f"1, or all n_groups = {self.n_groups}"
        require(self.n_active_groups in (1, self.n_groups), "n_active_groups", self.n_active_groups, allowed)
        smallest = self.n_input_features // self.n_groups
        allowed = f"at most the smallest group's {smallest} features"
        require(self.n_active <= smallest, "n_active", self.n_active, allowed)
        largest = -(-self.n_input_features // self.n_groups)
        allowed = f"λ must lie between 0 and 1, and λ^{largest} not underflow"
        require(0 < self.decay < 1 and self.decay**largest > 1e-37, "decay", self.decay, allowed)
        require(self.support_rows >= 0, "support_rows", self.support_rows, "must be 0 or more")


class SyntheticData:
    r"""Sparse linear combinations of known features, :math:`x = \sum_{j \in A} u_j f_j`, :math:`u_j \sim U(0, 1)`.

    Features have standard normal entries (R4). Each sample picks an active group uniformly (or has all), and in it
    `n_active` features without replacement with odds :math:`\lambda^j`, j being the index within the group; within a
    group the global index gives the same draw (R3). Groups have equal size up to one (R2).

    Deviates: the paper reads as K = 3 active features in one group, and as 36 in all (R1).

    Parameters
    ----------
    spec, seed, batch_size
    n_samples : int
        Of the whole run: with `support_rows`, the bank holds one support per group for each `support_rows` of them.
    device : torch.device or str
        Where samples are drawn and made: another kind of device gives other draws of the same distribution.

    Attributes
    ----------
    features : Tensor (feature, d_in)
        The rows are the columns of the paper's F.
    """

    @usual_defaults()
    def __init__(
        self, spec: SyntheticSpec, seed: int, batch_size: int, n_samples: int, device: torch.device | str = "cpu"
    ) -> None:
        self.spec, self.d_in = spec, spec.d_in
        self.seed, self.batch_size = whole("seed", seed, 0), whole("batch_size", batch_size)
        self.device = torch.device(device)
        self._on_kernels = self.device.type == "cpu" and compiled.available()
        self.id = "synthetic"  # the rest of its identity are fields of the config
        self.features = torch.randn(spec.n_input_features, spec.d_in, generator=generator(seed, FEATURES))
        total, size = spec.n_input_features, spec.n_input_features // spec.n_groups
        edges = np.linspace(0, size * spec.n_groups if spec.floor_groups else total, spec.n_groups + 1).astype(int)
        self.groups = [torch.arange(start, end) for start, end in itertools.pairwise(edges.tolist())]
        # Groups side by side, padded to the largest with features of odds 0.
        self._first = torch.tensor(edges[:-1], device=self.device)
        self._rows = torch.zeros(spec.n_groups, int(np.diff(edges).max()), spec.d_in)
        self._odds = torch.zeros(self._rows.shape[:2])
        for number, group in enumerate(self.groups):
            self._rows[number, : len(group)] = self.features[group]
            self._odds[number, : len(group)] = spec.decay ** torch.arange(1, len(group) + 1, dtype=torch.float32)
        self._never = -18 / float(self._odds[self._odds > 0].min())  # below the log of any float32 left of 1, over odds
        self._odds = self._odds.to(self.device)
        self.supports: Tensor | None = None  # (group, bank, feature of the group)
        if spec.support_rows:
            bank = -(-n_samples // spec.support_rows)
            owner = torch.arange(spec.n_groups).repeat_interleave(bank)
            uniform = torch.rand(len(owner), self._odds.shape[1], generator=generator(seed, SUPPORTS))
            support = self._support(owner.to(self.device), uniform.to(self.device))
            self.supports = support.bool().view(spec.n_groups, bank, -1)
        self.mean = torch.zeros(spec.d_in, device=self.device)
        if spec.center:
            means = [self._samples(*self._draw(10_000, MEAN, i)).mean(0) for i in range(20)]
            self.mean = torch.stack(means).mean(0)

    @usual_defaults()
    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the batch `(batch, d_in)` of a training step, or some of its shards."""
        spec, sizes = self.spec, [len(rows(self.batch_size, shard)) for shard in shards]
        if not self._on_kernels or self.supports is not None:
            drawn = [self._draw(n, SAMPLES, step, shard) for n, shard in zip(sizes, shards, strict=True)]
            return self._centred(*map(torch.cat, zip(*drawn, strict=True)))
        seeds, one = [seed_of(self.seed, SAMPLES, step, shard) for shard in shards], spec.n_active_groups == 1
        draws = [n * spec.n_active_groups for n in sizes]
        group, choice, u = native.draw_shards(seeds, draws, spec.n_groups if one else 0, self._odds.shape[1])
        if not one:
            group = torch.cat([torch.arange(spec.n_groups).repeat_interleave(n) for n in sizes])
        return self._centred(group, choice, u)

    def held_out(self, n_batches: int, batch_size: int = 2000) -> Iterator[Tensor]:
        """Yield batches of the same distribution that no training step sees; the same for every `batch_size` of training."""
        for i in range(n_batches):
            with usual_defaults():
                x = self._centred(*self._draw(batch_size, HELD_OUT, i))
            yield x

    @usual_defaults()
    def samples_and_coefficients(self, n: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Return held-out samples `(n, d_in)` before centring, and their coefficients `(n, feature)`."""
        drawn = self._draw(n, HELD_OUT, step)
        return self._samples(*drawn), self._coefficients(*drawn)

    def _draw(self, n: int, *stream: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw everything random about n samples: active groups, supports, coefficients; a row for each active group."""
        spec, draws = self.spec, generator(self.seed, *stream, device=self.device)
        on: dict[str, Any] = {"generator": draws, "device": self.device}
        if spec.n_active_groups == 1:
            group = torch.randint(spec.n_groups, (n,), **on)
        else:
            group = torch.arange(spec.n_groups, device=self.device).repeat_interleave(n)
        if self.supports is None:
            choice = torch.rand(len(group), self._odds.shape[1], **on)
        else:
            choice = torch.randint(self.supports.shape[1], group.shape, **on)
        return group, choice, torch.rand(len(group), self._odds.shape[1], **on)

    def _support(self, group: Tensor, uniform: Tensor) -> Tensor:
        """Choose a support for each entry of `group`, 1 where a feature is active: the first arrivals of an exponential race."""
        # An exact 0 would make a feature of odds 0 arrive at 0 / 0.
        to_go = torch.log1p(uniform.clamp(min=2.0**-25).neg_()).div_(self._odds[group])
        to_go.clamp_(min=self._never)
        if self._on_kernels:
            values = to_go.new_empty(len(group), self.spec.n_active)
            first = torch.empty(values.shape, dtype=torch.int64)
            native.select(to_go, self.spec.n_active, values, first)
        else:
            first = to_go.topk(self.spec.n_active, sorted=False).indices
        return torch.zeros(uniform.shape, device=self.device).scatter_(1, first, 1)

    def _active(self, group: Tensor, choice: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return groups in order, and the coefficients of their features `(len(group), feature of the group)`.

        Within a batch, order carries no meaning; in order of their group, samples of one group are one product.
        """
        group, order = group.sort(stable=True)
        support = self._support(group, choice[order]) if self.supports is None else self.supports[group, choice[order]]
        return group, u[order] * support

    def _centred(self, group: Tensor, choice: Tensor, u: Tensor) -> Tensor:
        x = self._samples(group, choice, u)
        return x.sub_(self.mean) if self.spec.center else x

    def _samples(self, group: Tensor, choice: Tensor, u: Tensor) -> Tensor:
        """Make the samples of what was drawn."""
        spec = self.spec
        if self.device.type != "cpu":  # one dense product, rather than a wait for the sizes of the groups
            return self._coefficients(group, choice, u) @ self.features.to(self.device)
        if self._on_kernels and self.supports is None:
            order = group.argsort(stable=True).view(spec.n_active_groups, -1)
            to_go = torch.log1p(choice.clamp(min=2.0**-25).neg_())
            return native.drawn_sums(self._rows, self._odds, self._never, spec.n_active, group, order, to_go, u)
        group, active = self._active(group, choice, u)
        parts = active.split(torch.bincount(group, minlength=spec.n_groups).tolist())
        sums = [part @ features for part, features in zip(parts, self._rows, strict=True)]
        return torch.cat(sums) if spec.n_active_groups == 1 else torch.stack(sums).sum(0)

    def _coefficients(self, group: Tensor, choice: Tensor, u: Tensor) -> Tensor:
        """Return the coefficients of the same samples over all features, `(n, feature)`."""
        group, active = self._active(group, choice, u)
        n, width = len(group) // self.spec.n_active_groups, self.spec.n_input_features + 1  # one column to pad into
        sample = torch.arange(len(group), device=self.device) % n
        column = self._first[group][:, None] + torch.arange(active.shape[1], device=self.device)
        place, found = sample[:, None] * width + column, torch.zeros(n * width, device=self.device)
        return found.index_add_(0, place.flatten(), active.flatten()).view(n, width)[:, :-1]
