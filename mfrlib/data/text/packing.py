"""Documents packed into sequences of tokens, all of one length, without padding."""

import array
import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Packed(NamedTuple):
    """Sequences, and how many documents they are made of."""

    tokens: NDArray[np.int64]
    """(sequence, position)"""
    n_documents: int


def pack(
    documents: Iterable[str], encode: Callable[[list[str]], list[list[int]]], bos_token: int | None, length: int,
    n_sequences: int | None = None, *, bos: bool = True,
) -> Packed:  # fmt: skip
    """Pack documents into sequences of `length` tokens, `n_sequences` at most; by default as many as there are.

    Documents, read only as far as needed, are tokenised, joined with the beginning-of-sequence token between them (the
    end-of-text token of GPT-2; None: nothing) and cut. No sequence is padded, attention crosses from one document to the next,
    and what is left over at the end is dropped. `encode` gives the token ids of each of some texts, without special tokens.
    With `bos` every sequence starts with the beginning-of-sequence token, one of its `length`.
    """
    body, stream, documents = length - bos, array.array("q"), iter(documents)
    n_documents, wanted = 0, None if n_sequences is None else n_sequences * body
    while (wanted is None or len(stream) < wanted) and (group := list(itertools.islice(documents, 64))):
        for ids in encode(group):
            if wanted is not None and len(stream) >= wanted:
                break
            if bos_token is not None and n_documents:
                stream.append(bos_token)
            stream.extend(ids)
            n_documents += 1
    flat = np.frombuffer(stream, dtype=np.int64)
    n = len(flat) // body if n_sequences is None else min(n_sequences, len(flat) // body)
    packed = flat[: n * body].reshape(n, body)
    if bos:
        packed = np.concatenate([np.full((n, 1), bos_token, dtype=np.int64), packed], axis=1)
    return Packed(packed, n_documents)
