"""Several processes on one stack, started by `torchrun`: who takes which shards of a batch, and sums over all of them.

The stack is whole in every process. Each takes its shards of every batch (`mfrlib.data.batches.SHARDS`), gradients and losses
are summed by torch.distributed, and all take the same step: one process or several give the same losses up to
rounding. The first process alone writes.
"""

import atexit
import datetime
import functools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mfrlib.config import ConfigError
from mfrlib.data.batches import SHARDS

WAIT = 3.0  # seconds in which a process that lost another says so


class RankLostError(RuntimeError):
    """A process of the team ended or hangs; the message names its rank."""


@dataclass(frozen=True)
class Team:
    """The processes that train together; a process on its own is a team of one."""

    rank: int = 0
    size: int = 1
    store: dist.Store | None = field(default=None, repr=False)
    """Where processes leave word for each other, besides the collectives."""

    def __post_init__(self) -> None:
        """Refuse a size that shards cannot be shared out to evenly."""
        allowed = [n for n in range(1, SHARDS + 1) if SHARDS % n == 0]
        if self.size not in allowed:
            raise ConfigError(f"processes: one of {allowed} ({SHARDS} shards to share out), given {self.size}")

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and shows progress."""
        return self.rank == 0

    @property
    def shards(self) -> Sequence[int]:
        """Shards of each batch that this process takes."""
        return range(self.rank * SHARDS // self.size, (self.rank + 1) * SHARDS // self.size)

    def sum_(self, *tensors: Tensor) -> None:
        """Replace tensors by their sums over the team, the same bits in every process; RankLostError if another process is gone."""
        if self.size == 1:
            return
        try:
            for tensor in tensors:
                dist.all_reduce(tensor)
        except RuntimeError as error:
            raise RankLostError(self._who(error)) from error

    def agree(self, value: Any = None) -> Any:
        """Return in every process what the first one passed; all wait for it, and RankLostError says that one is gone."""
        return self._gathered(value)[0]

    def require_alike(self, run: Mapping[str, Any]) -> None:
        """Refuse, in every process, a run that differs between them (ConfigError); RankLostError if one is gone."""
        first, *others = self._gathered(run)
        for rank, its in enumerate(others, 1):
            pairs = {name: (first.get(name), its.get(name)) for name in {**first, **its}}
            which = [f"{name} is {a!r} in rank 0, {b!r} in rank {rank}" for name, (a, b) in pairs.items() if a != b]
            if which:
                raise ConfigError(
                    f"WORLD_SIZE is {self.size}: so many processes train one stack together, but {'; '.join(which)}. "
                    "Give all of them the same, or unset WORLD_SIZE in each to train alone"
                )

    def _gathered(self, value: Any) -> list[Any]:
        found = [value] * self.size
        try:
            if self.size > 1:
                dist.all_gather_object(found, value)
        except RuntimeError as error:
            raise RankLostError(self._who(error)) from error
        return found

    def _who(self, error: Exception) -> str:
        """Say which ranks are gone: those that do not report within a few seconds that they failed too."""
        try:
            assert self.store is not None
            self.store.set(f"failed/{self.rank}", "")
            time.sleep(WAIT)
            gone = [str(rank) for rank in range(self.size) if not self.store.check([f"failed/{rank}"])]
        except RuntimeError:
            gone = ["0"]  # it kept the store
        return (
            f"rank {self.rank} of {self.size} stops: rank {', '.join(gone) or 'unknown'} is gone. Start the same "
            f"command again, with any number of processes allowed: it goes on from the last checkpoint. ({error})"
        )


@functools.cache
def team() -> Team:
    """Return the team of this process, joining it on the first call (gloo on a CPU, NCCL on GPUs) unless the caller has; ConfigError where torchrun's variables are wrong."""
    named = os.environ.get("WORLD_SIZE") or "1"
    if not named.isdecimal():
        raise ConfigError(f"WORLD_SIZE: must be a number of processes, as torchrun sets it, given {named!r}")
    size = int(named)
    if size == 1:
        return Team()
    Team(0, size)  # refuses an impossible size before anyone waits for anyone
    try:
        store, rank, _ = next(dist.rendezvous("env://"))
    except ValueError as error:
        raise ConfigError(f"WORLD_SIZE is {size}: start with torchrun, or unset WORLD_SIZE ({error})") from error
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    own: dict[str, Any] = {"store": dist.PrefixStore("team", store), "timeout": datetime.timedelta(minutes=10)}
    if not dist.is_initialized():
        dist.init_process_group(backend, rank=rank, world_size=size, **own)
        atexit.register(dist.destroy_process_group)  # threads that outlive Python abort its process, now and then
    return Team(dist.get_rank(), dist.get_world_size(), dist.PrefixStore("word", store))


def device_of(name: str) -> torch.device:
    """Return the device of a config's name: `auto` is a CUDA GPU where there is one, each process of a machine its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)
