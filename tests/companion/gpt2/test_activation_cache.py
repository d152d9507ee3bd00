"""Activations on disk: the same numbers, damage noticed, nothing half-written."""

import numpy as np
import pytest
import torch

from mfrbook.chapters.gpt2.activation_cache import cached
from mfrbook.experiments import untrained
from mfrbook.experiments.model_and_text import open_text
from mfrlib.language_models.activations import ActivationBatches, ActivationError, ModelReader
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.language_models.pretrained.loading import load_pretrained

HOOKS = ("blocks.0.hook_mlp_out", "blocks.2.hook_resid_pre")


@pytest.fixture
def reader(tiny_lm):
    return ModelReader(tiny_lm, open_text(tiny_lm, n_sequences=10, length=12), HOOKS, batch_size=4)


def test_batches_from_disk_are_those_of_the_model(reader, tmp_path):
    stored = cached(reader, tmp_path, progress=False)
    for hook in HOOKS:
        live, disk = (ActivationBatches(one, hook, batch_size=20, seed=3) for one in (reader, stored))
        assert (disk.d_in, disk.id) == (live.d_in, live.id)
        for step in range(5):
            # Sequences go through the model in other company here and there.
            torch.testing.assert_close(disk.batch(step), live.batch(step), atol=1e-5, rtol=1e-5)


def test_the_model_is_not_run_again(reader, tmp_path, monkeypatch):
    first = cached(reader, tmp_path, progress=False).read(np.arange(10))
    monkeypatch.setattr(reader.model, "activations", None)
    again = cached(reader, tmp_path, progress=False).read(np.arange(10))
    assert torch.equal(first[HOOKS[0]], again[HOOKS[0]])


def test_another_model_or_text_has_files_of_its_own(reader, tiny_lm, tmp_path):
    cached(reader, tmp_path, progress=False)
    retrained = untrained.load("tiny-lm", "untrained")
    others = [
        ModelReader(retrained, reader.sequences, HOOKS[:1]),
        ModelReader(tiny_lm, open_text(tiny_lm, n_sequences=9, length=12), HOOKS[:1]),
        ModelReader(tiny_lm, reader.sequences, HOOKS[:1], skip=2),
    ]
    for number, other in enumerate(others, 1):
        cached(other, tmp_path, progress=False)
        assert len(list(tmp_path.glob("*.f32"))) == 2 + number


@pytest.mark.parametrize("damage", ["flip", "cut", "note", "gone"])
def test_damage_is_noticed_and_mended(reader, tmp_path, damage):
    before = cached(reader, tmp_path, progress=False).read(np.arange(10))[HOOKS[0]].clone()
    for path in tmp_path.glob("*.f32"):
        whole = bytearray(path.read_bytes())
        if damage == "flip":
            whole[100] ^= 1
            path.write_bytes(whole)
        elif damage == "cut":
            path.write_bytes(whole[:-4])
        elif damage == "note":
            path.with_suffix(".json").write_text("{")
        else:
            path.unlink()
    with pytest.warns(UserWarning, match="damaged .* and made again"):
        after = cached(reader, tmp_path, progress=False).read(np.arange(10))[HOOKS[0]]
    assert torch.equal(after, before)


def test_nothing_half_written_stays(tiny_lm, tmp_path):
    broken = load_pretrained("tiny-lm").model
    sequences = open_text(tiny_lm, n_sequences=10, length=12)
    last = int(sequences.tokens[-1, -1])
    first = set(sequences.tokens[0].tolist())
    assert last not in first
    with torch.no_grad():
        broken.transformer.wte.weight[last] = 1e38  # finite; its layer norm is not
    reader = ModelReader(LanguageModel(broken, None, "broken"), sequences, HOOKS, batch_size=4)
    with pytest.raises(ActivationError, match="not finite"):
        cached(reader, tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_written(reader, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        cached(reader, tmp_path / "file" / "cache", progress=False)
