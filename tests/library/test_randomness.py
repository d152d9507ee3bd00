import itertools
import threading

import torch

from mfrlib.randomness import Orders, generator, usual_defaults


def test_the_same_seed_and_stream_give_the_same_draws():
    assert torch.equal(torch.rand(5, generator=generator(3, 1, 7)), torch.rand(5, generator=generator(3, 1, 7)))


def test_every_other_seed_or_stream_gives_others():
    """Also streams that are prefixes of each other or end in zeros, and seeds of more than 32 bits."""
    names = [*itertools.product(range(3), repeat=2), *itertools.product(range(3), repeat=3), (2**32, 1), (0, 0, 0, 0)]
    assert len({generator(*name).initial_seed() for name in names}) == len(names)


def test_an_endless_row_of_permutations_wherever_one_looks_into_it():
    orders, places = Orders(5, 3, 7), torch.arange(20)
    epochs = [torch.randperm(5, generator=generator(3, 7, epoch)) for epoch in range(4)]
    assert torch.equal(orders.at(places), torch.cat(epochs))
    assert torch.equal(orders.at(places.flip(0)), torch.cat(epochs).flip(0))
    assert orders.at(places[:0]).shape == (0,)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=generator(0, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_that_end_in_any_order_leave_the_caller_s_default_type():
    opened, closed = threading.Event(), threading.Event()

    def outlives_the_other():
        with usual_defaults():
            opened.set()
            closed.wait(10)
            assert torch.get_default_dtype() == torch.float32

    other = threading.Thread(target=outlives_the_other)
    torch.set_default_dtype(torch.float64)
    try:
        with usual_defaults():
            other.start()
            opened.wait(10)
            with usual_defaults(torch.float16):
                assert torch.get_default_dtype() == torch.float16
        assert torch.get_default_dtype() == torch.float32  # the other thread's block is still open
        closed.set()
        other.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
