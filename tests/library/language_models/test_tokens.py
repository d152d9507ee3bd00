"""Documents packed into sequences, against packing by hand."""

import json

import numpy as np
import pytest
import torch

from mfrbook.experiments import docstrings
from mfrbook.experiments.model_and_text import open_text
from mfrlib.data.text.documents import TextError, identity_of
from mfrlib.data.text.packing import pack
from mfrlib.language_models.tokens import identity_of_sequences


def letters(texts):
    """A tokenizer that can be followed by eye: a is 1, b is 2; 0 is the beginning of a sequence."""
    return [[ord(letter) - 96 for letter in one] for one in texts]


@pytest.mark.parametrize(
    ("bos", "length", "expected"),
    [
        (True, 4, [[0, 1, 2, 3], [0, 0, 4, 5], [0, 6, 7, 0], [0, 8, 9, 9]]),
        (False, 4, [[1, 2, 3, 0], [4, 5, 6, 7], [0, 8, 9, 9]]),
        (True, 12, [[0, 1, 2, 3, 0, 4, 5, 6, 7, 0, 8, 9]]),
        (True, 20, np.empty((0, 20))),
    ],
)
def test_packing_by_hand(bos, length, expected):
    found = pack(["abc", "defg", "hii"], letters, 0, length, bos=bos)
    assert np.array_equal(found.tokens, expected)
    assert found.n_documents == 3


def test_without_a_beginning_documents_follow_one_another():
    assert pack(["abc", "de"], letters, None, 2, bos=False).tokens.tolist() == [[1, 2], [3, 4]]


def test_no_more_documents_are_opened_than_needed():
    opened = []

    def endless():
        while True:
            opened.append(1)
            yield "abc"

    found = pack(endless(), letters, 0, 4, 2)
    assert found.tokens.tolist() == [[0, 1, 2, 3], [0, 0, 1, 2]]
    assert found.n_documents == 2
    assert len(opened) <= 64


def test_a_text_s_tokens_are_its_text_again(tiny_lm):
    sequences = open_text(tiny_lm, n_sequences=5, length=64)
    assert sequences.tokens.shape == (5, 64)
    assert sequences.tokens.dtype == np.uint16
    assert (sequences.tokens[:, 0] == tiny_lm.bos).all()

    whole = tiny_lm.decode(sequences.tokens[:, 1:].ravel().astype(int))
    assert whole.startswith(next(docstrings.documents("train"))[:100])


def test_sequences_are_a_prefix_of_more_sequences(tiny_lm):
    few, many = (open_text(tiny_lm, n_sequences=n, length=32) for n in (3, 6))
    assert np.array_equal(many.tokens[:3], few.tokens)
    assert few.hash != many.hash
    assert few.hash == open_text(tiny_lm, n_sequences=3, length=32).hash


def test_sides_differ(tiny_lm):
    train, held_out = (open_text(tiny_lm, split=split, n_sequences=3) for split in ("train", "held-out"))
    assert not np.array_equal(train.tokens, held_out.tokens)
    assert (train.id, held_out.id) == ("lm:tiny-lm:python-docs:train", "lm:tiny-lm:python-docs:held-out")


def test_iterating_and_taking_agree(tiny_lm):
    sequences = open_text(tiny_lm, n_sequences=7, length=16)
    in_order = torch.cat(list(sequences.iterate(3)))
    assert in_order.dtype == torch.int64
    assert torch.equal(in_order, sequences.take(np.arange(7)))


def test_identity_holds_no_path(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    its = identity_of(str(tmp_path / "a.txt"))
    assert identity_of_sequences("gpt2", its, "train") == f"lm:gpt2:own:train:sha256:{its.sha256[:16]}"
    assert identity_of_sequences("stories260K", "sample", "train") == "lm:stories260K:sample:train"


class TestRefused:
    @pytest.mark.parametrize("text", ["", "\n\n", "short", "a little longer, and still far too short"])
    def test_empty_or_short_text(self, tiny_lm, tmp_path, text):
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps({"text": text}))
        with pytest.raises(
            TextError, match=r"too short: its \d documents give 0 sequences of 32 tokens, n_sequences is 4"
        ):
            open_text(tiny_lm, str(path), n_sequences=4, length=32)

    def test_impossible_sizes(self, tiny_lm):
        with pytest.raises(ValueError, match="length: must be from 2 to the model's context of 128, given 129"):
            open_text(tiny_lm, n_sequences=1, length=129)
        with pytest.raises(ValueError, match="n_sequences: must be 1 or more, given 0"):
            open_text(tiny_lm, n_sequences=0)
        with pytest.raises(ValueError, match="split"):
            open_text(tiny_lm, split="test", n_sequences=1)
