"""Activations of a language model as batches: streamed, shuffled in a bounded buffer, a pure function of the step."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfrlib.config import require, whole
from mfrlib.data.batches import ALL_SHARDS, SHARDS, rows
from mfrlib.data.identity import joined
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.randomness import SEQUENCES, TOKENS, Orders, generator


class ActivationError(ValueError):
    """Activations that cannot be trained on; the message names sequence, position and hook."""


class Block(dict[str, Tensor]):
    """Activations of some sequences, by hook, each float32 `(sequence, position, width)`."""


class Reader(Protocol):
    """What gives the activations of sequences, such as a model (`ModelReader`)."""

    hooks: tuple[str, ...]
    """The hooks read, all in one forward pass."""
    sequences: Sequences
    skip: int
    """Positions left out at the start of each sequence."""

    def width(self, hook: str) -> int:
        """Return the width at a hook."""

    def read(self, chosen: NDArray[np.int64]) -> Block:
        """Return the activations of the sequences asked for."""


class ModelReader:
    """Activations straight from the model: one forward pass, up to the last of the hooks, for all of them.

    A block that someone still holds is not computed again: sources that step side by side (several stacks of SAEs,
    several hooks) with the same seed and sizes share one forward pass.

    Parameters
    ----------
    model, sequences, hooks
    skip : int, optional
        Positions left out at the start of each sequence; by default the beginning-of-sequence token, where every
        sequence has it: its activation is always the same.
    batch_size : int
        Sequences in a forward pass.

    Raises
    ------
    LanguageModelError
        If there is no such hook, or the tokens are of another vocabulary or too long.
    ActivationError
        If the first sequence's activations are not finite.
    """

    def __init__(self, model: LanguageModel, sequences: Sequences, hooks: Sequence[str], *,
                 skip: int | None = None, batch_size: int = 32) -> None:  # fmt: skip
        require(not isinstance(hooks, str), "hooks", hooks, "must be a list of names")
        whole("batch_size", batch_size)
        its = joined(str(model.identity), model.identity)
        if sequences.model != its:  # cut for another model: what is read is this one's
            sequences = replace(sequences, id=f"{sequences.id}:read-by={its}", model=its)
        self.model, self.sequences, self.hooks = model, sequences, tuple(hooks)
        self.skip, self.batch_size = int(sequences.bos) if skip is None else whole("skip", skip, 0), batch_size
        require(len(self.hooks) >= 1, "hooks", hooks, "must name at least one")
        require(0 <= self.skip < sequences.length, "skip", skip, f"must be from 0 to {sequences.length - 1}")
        self._held: weakref.WeakValueDictionary[bytes, Block] = weakref.WeakValueDictionary()
        highest = int(sequences.tokens.max())
        model.check_tokens(torch.tensor([[highest]]).expand(1, sequences.length))
        for hook in self.hooks:
            model.width(hook)
        self.read(np.zeros(1, dtype=np.int64))

    def width(self, hook: str) -> int:
        """Return the width at a hook."""
        return self.model.width(hook)

    def read(self, chosen: NDArray[np.int64]) -> Block:
        """Return the activations of the sequences asked for; ActivationError if one is not finite."""
        key = chosen.tobytes()
        block = self._held.get(key)
        if block is None:
            kept = self.sequences.length - self.skip
            out = {hook: torch.empty(len(chosen), kept, self.width(hook), dtype=torch.float32) for hook in self.hooks}
            for start in range(0, len(chosen), self.batch_size):
                part = chosen[start : start + self.batch_size]
                found = self.model.activations(self.sequences.take(part).to(self.model.device), self.hooks)
                for hook, value in found.items():
                    out[hook][start : start + len(part)] = value[:, self.skip :]
            for hook, value in out.items():
                finite = torch.isfinite(value).all(-1)
                if not finite.all():
                    row, position = (~finite).nonzero()[0].tolist()
                    where = f"sequence {chosen[row]}, position {position + self.skip}"
                    raise ActivationError(f"activations at {hook!r} are not finite: {where}. Check the model's weights")
            self._held[key] = block = Block(out)
        return block


class ActivationBatches:
    """Batches of activations at one hook.

    An epoch permutes the sequences and deals them out to the shards of a batch in equal shares. A shard holds a block
    of its sequences at a time, its share of the buffer, and permutes the positions in it. So the content of a shard
    depends on seed, step and shard only, a run can go on at any step, and whoever needs some of the shards computes
    no more than those. Within a share every position is seen once before any is seen again; none is padding. Sequences left
    over when they are dealt out wait for another epoch.

    Parameters
    ----------
    reader, hook, batch_size, seed
    shuffle : bool
        False: the sequences in their order and consecutive tokens, each shard a run of its own (R14).
    buffer : int
        Positions held in memory, over all shards; at least a sequence each.

    Attributes
    ----------
    d_in : int
    id : str
        Identity of what is read, and of its order.
    """

    def __init__(
        self, reader: Reader, hook: str, *, batch_size: int, seed: int = 0, shuffle: bool = True, buffer: int = 2**16
    ) -> None:
        require(hook in reader.hooks, "hook", hook, f"must be one of those read: {', '.join(reader.hooks)}")
        whole("batch_size", batch_size)
        count = len(reader.sequences)
        require(count >= SHARDS, "n_sequences", count, f"must be {SHARDS} or more")
        whole("buffer", buffer)
        self.reader, self.hook, self.batch_size, self.seed, self.shuffle = reader, hook, batch_size, seed, shuffle
        self.d_in = reader.width(hook)
        its = f"{hook}:skip={reader.skip}:seed={seed}:shuffle={shuffle}:tokens={reader.sequences.hash[:16]}"
        self.id = f"{reader.sequences.id}:{its}"
        self._kept = reader.sequences.length - reader.skip
        self._share = count // SHARDS
        self._block_size = min(self._share, max(1, buffer // (SHARDS * self._kept)))
        self._held: dict[int, tuple[int, Block, Tensor]] = {}
        self._orders = Orders(count, seed, SEQUENCES)

    def batch(self, step: int, shards: Sequence[int] = ALL_SHARDS) -> Tensor:
        """Return the float32 batch of a training step, or some of its shards, `(rows, d_in)`."""
        return torch.cat([self._part(step, shard) for shard in shards])

    def epochs(self, steps: int) -> float:
        """Return how often a run of so many steps sees every position."""
        return steps * self.batch_size / (SHARDS * self._share * self._kept)

    def _part(self, step: int, shard: int) -> Tensor:
        n_rows, size = len(rows(self.batch_size, shard)), self._block_size * self._kept
        row, end, parts = step * n_rows, (step + 1) * n_rows, [torch.empty(0, self.d_in, dtype=torch.float32)]
        while row < end:
            number, start = divmod(row, size)
            stop = min(size, start + end - row)
            block, order = self._block(number, shard)
            parts.append(block[self.hook].flatten(0, 1)[order[start:stop]])
            row += stop - start
        return torch.cat(parts)

    def _block(self, number: int, shard: int) -> tuple[Block, Tensor]:
        held = self._held.get(shard)
        if held is None or held[0] != number:
            self._held.pop(shard, None)  # before the next is made: one block at a time
            first = number * self._block_size
            mine = [self._sequence(shard, one) for one in range(first, first + self._block_size)]
            size, draws = len(mine) * self._kept, generator(self.seed, TOKENS, shard, number)
            order = torch.randperm(size, generator=draws) if self.shuffle else torch.arange(size)
            held = self._held[shard] = number, self.reader.read(np.array(mine, dtype=np.int64)), order
        return held[1:]

    def _sequence(self, shard: int, number: int) -> int:
        """Return the sequence that a shard reads as its `number`-th."""
        epoch, index = divmod(number, self._share)
        index += shard * self._share
        return int(self._orders[epoch][index]) if self.shuffle else index


def in_order(reader: Reader, hook: str, batch_size: int = 16) -> Iterator[Tensor]:
    """Yield the activations at a hook of all sequences, in order, `(≤ batch_size · positions, d_in)`."""
    for start in range(0, len(reader.sequences), batch_size):
        some = np.arange(start, min(start + batch_size, len(reader.sequences)))
        yield reader.read(some)[hook].flatten(0, 1)
