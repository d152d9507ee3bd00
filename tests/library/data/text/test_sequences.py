import numpy as np
import pytest
import torch

from mfrlib.config import ConfigError
from mfrlib.data.batches import SHARDS
from mfrlib.data.text.sequences import Sequences, TokenBatches


def source(n=10, batch_size=4, seed=0):
    tokens = np.arange(n, dtype=np.uint16)[:, None] * 100 + np.arange(3, dtype=np.uint16)
    return TokenBatches(Sequences(tokens, "test", False, 1), 7, batch_size=batch_size, seed=seed)


def rows_of(batches):
    return [int(row[0]) // 100 for batch in batches for row in batch]


def test_every_sequence_is_seen_once_before_any_is_seen_again():
    one = source()
    seen = rows_of(one.batch(step) for step in range(10))  # four epochs; steps straddle their ends
    for epoch in range(4):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert seen[:10] != seen[10:20]
    assert one.epochs(10) == 4


def test_a_batch_is_whole_sequences_of_int64_and_a_pure_function_of_the_step():
    batch = source().batch(3)
    assert batch.dtype == torch.int64
    assert batch.shape == (4, 3)
    assert (batch[:, 1] - batch[:, 0]).tolist() == [1] * 4
    again = source()
    again.batch(7)
    assert torch.equal(again.batch(3), batch)
    assert not torch.equal(source(seed=1).batch(3), batch)


@pytest.mark.parametrize("batch_size", [1, 4, 8, 11])
def test_shards_together_are_the_batch(batch_size):
    one = source(batch_size=batch_size)
    parts = [one.batch(5, [shard]) for shard in range(SHARDS)]
    assert torch.equal(torch.cat(parts), one.batch(5))


def test_an_empty_batch_is_refused():
    with pytest.raises(ConfigError, match="batch_size"):
        source(batch_size=0)
