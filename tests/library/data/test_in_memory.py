"""Rows that the user holds: what is taken, what is refused, and in which order they come."""

import numpy as np
import pytest
import torch

from mfrlib.config import ConfigError
from mfrlib.data.batches import SHARDS
from mfrlib.data.in_memory import TensorBatches, as_rows, digest


@pytest.fixture
def x(draws):
    return torch.randn(50, 3, generator=draws)


def numbered(n):
    return torch.arange(n, dtype=torch.float32)[:, None]


def test_every_row_is_seen_once_before_any_is_seen_again():
    source = TensorBatches(numbered(50), 8, seed=3)
    seen = torch.cat([source.batch(step)[:, 0] for step in range(25)]).long()  # 200 rows: four epochs
    epochs = seen.view(4, 50)
    assert torch.equal(epochs.sort(1).values, torch.arange(50).expand(4, 50))
    assert len({tuple(one.tolist()) for one in epochs}) == 4


def test_a_batch_is_a_function_of_seed_and_step_only(x):
    forth = [TensorBatches(x, 8, seed=3).batch(step) for step in range(20)]
    source = TensorBatches(x.clone(), 8, seed=3)
    back = [source.batch(step) for step in reversed(range(20))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))
    assert not torch.equal(TensorBatches(x, 8, seed=4).batch(0), forth[0])


@pytest.mark.parametrize("batch_size", [8, 11, 50])
def test_shards_make_the_batch_in_any_order(x, batch_size):
    source = TensorBatches(x, batch_size)
    for step in (0, 6, 13):
        parts = {shard: source.batch(step, [shard]) for shard in range(SHARDS)}
        assert torch.equal(torch.cat([parts[shard] for shard in range(SHARDS)]), source.batch(step))
        assert torch.equal(source.batch(step, [5, 2]), torch.cat([parts[5], parts[2]]))


def test_values_order_shape_and_seed_make_the_identity(x):
    assert TensorBatches(x, 8).id == TensorBatches(x.numpy().astype(np.float64), 10).id
    changed = x.clone()
    changed[49, 2] += 1e-6
    others = [changed, x.flip(0), x.view(-1, 2), x[:49]]
    ids = {TensorBatches(one, 8).id for one in [x, *others]} | {TensorBatches(x, 8, seed=1).id}
    assert len(ids) == len(others) + 2
    assert "/" not in TensorBatches(x, 8).id


def test_a_digest_is_of_shape_type_and_values_and_that_of_float32_stays_what_archived_keys_have():
    x = torch.arange(6.0).view(2, 3)
    assert digest(x) == "sha256:9c85d54b302647ae"
    assert digest(x.clone().requires_grad_()) == digest(x.T.contiguous().T) == digest(x)
    types = [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool, torch.complex64]
    others = [x.to(one) for one in types] + [x.view(3, 2), x.flip(0), x[0], x[0, 0], x[0, 1], x[:0], x.bfloat16()[0, 0]]
    assert len({digest(one) for one in [x, *others]}) == len(others) + 1


@pytest.mark.parametrize("dtype", ["float16", "float64", "longdouble", ">f4", ">f8"])
def test_floating_point_of_any_kind_is_converted(x, dtype):
    rows = as_rows(x.numpy().astype(dtype))
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, x, rtol=1e-3, atol=1e-3)
    assert as_rows(x.bfloat16()).dtype == torch.float32


def test_float32_is_not_copied_and_gradients_are_left_behind(x):
    assert as_rows(x).data_ptr() == x.data_ptr()
    assert not as_rows(x.clone().requires_grad_()).requires_grad
    array = x.numpy().copy()
    array.flags.writeable = False
    assert torch.equal(as_rows(array), x)
    assert torch.equal(as_rows(x.numpy()[::-1]), x.flip(0))  # negative strides


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (torch.zeros(5), r"matrix \(n, d_in\), given shape \(5,\)$"),
        (torch.zeros(2, 3, 4), r"given shape \(2, 3, 4\); reshape\(-1, 4\)"),
        (np.zeros((0, 4), np.float32), r"a row and a column at least, given shape \(0, 4\)"),
        (torch.zeros(4, 0), r"given shape \(4, 0\)"),
        (torch.zeros(4, 2, dtype=torch.int64), r"floating point, given torch\.int64; convert it with \.float\(\)"),
        (np.zeros((4, 2), dtype=bool), r"floating point, given torch\.bool"),
        (np.zeros((4, 2), dtype=np.uint16), r"floating point, given torch\.uint16"),
        (torch.zeros(4, 2, dtype=torch.complex64), "floating point, given torch.complex64"),
        (np.zeros((4, 2), dtype=np.complex64), "floating-point numbers, given ndarray of dtype complex64"),
        (torch.eye(3).to_sparse(), r"must be dense, given torch\.sparse_coo"),
        (np.ma.masked_less(np.eye(3), 0.5), "must have no masked entry"),
        (np.array([["a"]]), "floating-point numbers, given ndarray of dtype <U1"),
        (np.array([[1.0], [float("inf")]]), r"NaN or Inf.*row 1, column 0 is inf"),
        (np.array([[1.0, 1e300]]), r"row 0, column 1 is 1e\+300"),
    ],
)
def test_what_is_no_matrix_of_finite_numbers_is_refused_in_one_sentence(data, words):
    with pytest.raises(ConfigError, match=words) as raised:
        as_rows(data)
    assert str(raised.value).startswith("data: ")
    assert "\n" not in str(raised.value)


def test_nan_far_down_is_found_at_its_row():
    x = torch.zeros(70_000, 2)
    x[69_999, 1] = float("nan")
    with pytest.raises(ConfigError, match="row 69999, column 1 is nan"):
        as_rows(x)


def test_too_few_rows_for_a_batch_are_refused_with_both(x):
    with pytest.raises(ConfigError, match="batch_size: at most the number of rows of the data, 50, given 51"):
        TensorBatches(x, 51)
    with pytest.raises(ConfigError, match="batch_size: must be 1 or more"):
        TensorBatches(x, 0)


@pytest.mark.parametrize(("size", "seed"), [(4, None), (4, 0.5), (4, True), (4, "1"), (4, -1), (4.0, 0), ("4", 0)])
def test_sizes_and_seeds_are_whole_numbers(x, size, seed):
    """No seed would draw other batches at each start, under one name."""
    with pytest.raises(ConfigError, match=r"(batch_size|seed): must be (int|0 or more), given"):
        TensorBatches(x, size, seed)
    plain, of_numpy = TensorBatches(x, 4, 1), TensorBatches(x, np.int64(4), np.int32(1))
    assert plain.id == of_numpy.id
    assert torch.equal(plain.batch(3), of_numpy.batch(3))


def test_data_that_were_changed_in_place_are_other_data(x):
    source = TensorBatches(x.clone(), 4)
    before = source.id
    source.x[0, 0] += 1
    assert source.id != before
