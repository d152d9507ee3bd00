import numpy as np

from mfrbook.chapters.tiny_lm.corpus import unseen, versions


def test_what_shares_a_paragraph_with_the_training_side_is_not_unseen():
    shared = (
        "axis : int, optional\n    Axis along which the sum is taken; by default the last, as in the other functions."
    )
    trained = [f"Return the sum.\n\n{shared}"]
    held_out = [f"Return the product.\n\n  {shared}", "Return the sum.\n\nA paragraph of its own."]
    assert list(unseen(held_out, trained)) == held_out[1:]


def test_versions_name_what_decides_the_text():
    assert versions()["numpy"] == np.__version__
