"""What a training run says when it cannot go on: memory runs out, numbers are not finite, the caller's functions give something else."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfrlib.config import ConfigError, plain, require
from mfrlib.data.batches import Batches, rows
from mfrlib.training.config import TrainingConfig
from mfrlib.training.parallel import Team

REMEDY = "Try a smaller learning_rate, a smaller alpha, or a longer warmup."


class TrainingDiverged(RuntimeError):
    """NaN or Inf in the data or in a loss."""


@contextmanager
def memory_advice(config: TrainingConfig) -> Iterator[None]:
    """Turn the many ways in which memory runs out into one MemoryError that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not full:
            raise
        sizes = ", ".join(f"{name} = {getattr(config, name)}" for name in ("batch_size", "n_features", "n_saes"))
        raise MemoryError(
            f"memory ran out. Lower one of {sizes}; the last checkpoint is kept. ({str(error).strip().splitlines()[0]})"
        ) from error


@torch.no_grad()
def why_not_finite(
    sae: Any, source: Batches, objective: Callable[[Any, Tensor], Any], step: int, kept: Path | None
) -> str:
    """Say what is wrong with a step, by doing it again: the weights are still those that it began with."""
    where = f"; the weights before it are kept in {kept}" if kept and kept.exists() else ""
    try:
        x = source.batch(step).to(sae.weight.device)
    except LookupError:  # of an iterable, whose rows were found to be finite when they were read
        return f"loss is not finite at step {step}{where}. {REMEDY}"
    if not torch.isfinite(x).all():
        row, column = (~torch.isfinite(x)).nonzero()[0].tolist()
        return f"NaN or Inf in the data at step {step}, row {row}, column {column} of the batch{where}. Clean the data."
    saes = (~torch.isfinite(objective(sae, x)[0])).nonzero().flatten().tolist() or "all (the penalty)"
    return f"loss is not finite at step {step}, SAE {saes}{where}. {REMEDY}"


def batch_of(source: Batches, step: int, team: Team, size: int) -> Tensor:
    """Return a step's batch, or the team's share of it; ConfigError if it is no tensor of as many rows."""
    x: Any = source.batch(step) if team.size == 1 else source.batch(step, team.shards)
    n = sum(len(rows(size, shard)) for shard in team.shards)
    given = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
    allowed = f"batch({step}) of the source must be a tensor of {n} rows, as batch_size = {size} asks for"
    require(isinstance(x, Tensor) and x.ndim > 0 and len(x) == n, "data", given, allowed)
    return x


def warn_of_scale(x: Tensor) -> None:
    """Warn of a batch in a unit in which the optimiser's steps are far too large or too small."""
    size = x.float().square().mean().sqrt().item() if x.is_floating_point() else 1.0
    if size < 0.003 or size > 1e4:
        said = f"data: rows have a root mean square of {size:.2g}, and steps of the optimiser suit one of about 1"
        warnings.warn(f"{said}: divide the rows by x.std()", stacklevel=4)


def asked(objective: Callable[[Any, Tensor], Any], sae: Any, x: Tensor) -> tuple[Tensor, Any]:
    """Return what the caller's own objective gives; ConfigError if that is no loss of each SAE, and codes."""
    found = objective(sae, x)
    loss, output = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    shaped = isinstance(loss, Tensor) and loss.shape == (len(sae),)
    fits = shaped and (hasattr(output, "codes") or hasattr(output, "indices"))
    given = f"a loss of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    allowed = f"must return the loss of each SAE, a tensor ({len(sae)},), and the SAEs' output"
    require(fits, "objective", f"{given} and {type(output).__name__}", allowed)
    return loss, output


def gradients(own: Tensor, total: Tensor, sae: Any) -> list[Tensor]:
    """Return the gradient of a total by each parameter, as the optimiser reads memory, 0 by an unused one; ConfigError if `own` has none."""
    parameters = [*sae.parameters()]
    found = torch.autograd.grad(total, parameters, allow_unused=True) if own.requires_grad else ()
    learns = any(one is not None for one in found)
    allowed = "its loss must have a gradient by the SAEs' weights: compute it in floating point, without no_grad"
    require(learns, "objective", "none", allowed)
    pairs = zip(parameters, found, strict=True)
    return [torch.zeros_like(one) if its is None else its.contiguous() for one, its in pairs]


def observed(observe: Callable[[Any], Any], sae: Any, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with what the caller observes, as JSON has it; ConfigError if it cannot be written so, or replaces something."""
    found = observe(sae)
    try:
        found = json.loads(json.dumps({name: plain(value) for name, value in found.items()}))
    except (TypeError, ValueError, AttributeError) as error:
        allowed = f"must return a dict of numbers, lists or strings ({error})"
        raise ConfigError(f"observe: {allowed}, given {found!r}") from error
    require(not record.keys() & found, "observe", sorted(found), f"must give other names than {', '.join(record)}")
    return record | found
