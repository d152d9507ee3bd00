"""GGUF files: the model is known by their bytes, and what can go wrong is said in one sentence."""

import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("gguf")

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from mfrlib.data.identity import ARCHIVED, Identity, of_file
from mfrlib.language_models.pretrained import gguf, names
from mfrlib.language_models.pretrained.gguf import SMOLLM2, GGUFError, convert, smollm2_folder


@pytest.mark.parametrize("content", [b"GGUF\x03\x00\x00\x00 cut off", b"no GGUF at all"])
def test_a_file_that_is_no_model(tmp_path, content):
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    with pytest.raises(GGUFError, match=r"broken\.gguf cannot be read as a GGUF model"):
        convert(file, tmp_path / "models" / "broken")
    assert not (tmp_path / "models" / "broken").exists()


@pytest.mark.parametrize(
    ("architecture", "quantisation", "reason"),
    [
        ("unheard-of", None, "architecture unheard-of is not supported"),
        ("llama", "Q8_K", "Dequantization for Q8_K is not yet implemented"),
    ],
)
def test_a_model_of_another_architecture_or_quantisation(tmp_path, architecture, quantisation, reason):
    file = tmp_path / "other.gguf"
    writer = GGUFWriter(str(file), architecture)
    for name in (
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "head_count",
        "vocab_size",
    ):
        getattr(writer, f"add_{name}")(1)
    kind = GGMLQuantizationType[quantisation or "F32"]
    size = GGML_QUANT_SIZES[kind][1]  # bytes of a block
    writer.add_tensor("token_embd.weight", np.zeros((1, size), np.uint8), raw_shape=(1, size), raw_dtype=kind)
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    with pytest.raises(GGUFError, match=rf"other\.gguf cannot be read as a GGUF model \(.*{reason}"):
        convert(file, tmp_path / "models" / "other")
    assert not (tmp_path / "models" / "other").exists()


def test_two_that_want_the_same_file_convert_it_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path / "cache"))
    file, reads = tmp_path / "a.gguf", []
    file.write_bytes(b"its bytes")

    class Part:
        def save_pretrained(self, folder):
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text("{}")

    def read(file):
        reads.append(file)
        time.sleep(0.5)  # time for the other to see that there is no folder yet
        return Part(), Part()

    monkeypatch.setattr(gguf, "_read", read)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(gguf.converted, [file, file])
    assert first == second
    assert gguf.origin(first) == of_file(file)
    assert reads == [file]


class TestIdentity:
    @pytest.fixture
    def converted(self, small_lm_folder, tmp_path, monkeypatch):
        """Return a function that makes a model's folder, as if converted from a GGUF file of a hash."""
        monkeypatch.setenv("MFR_CACHE", str(tmp_path / "cache"))

        def make(sha256, folder=tmp_path / "model"):
            shutil.copytree(small_lm_folder, folder)
            files = {one.name: of_file(one) for one in folder.iterdir()}
            (folder / "gguf.json").write_text(json.dumps({"gguf": sha256, "files": files}))
            return folder

        return make

    def test_it_is_that_of_the_file_wherever_the_folder_lies(self, converted, tmp_path):
        known = ARCHIVED[SMOLLM2]
        for folder in (tmp_path / "here", tmp_path / "there"):
            assert names.identity_of(str(converted(known, folder))) == Identity("smollm2")
        assert names.identity_of(str(converted("0" * 64))) == Identity("own", "0" * 64)

    def test_a_folder_that_was_changed_is_a_model_of_its_own(self, converted):
        folder = converted(ARCHIVED[SMOLLM2])
        config = folder / "config.json"
        config.write_text(config.read_text() + " ")
        its = names.identity_of(str(folder))
        assert its.name == "own"
        assert its.sha256 not in ("", ARCHIVED[SMOLLM2])

    def test_a_conversion_that_was_changed_since_is_made_again(self, converted, tmp_path, monkeypatch):
        (tmp_path / "a.gguf").write_bytes(b"its bytes")
        sha256 = of_file(tmp_path / "a.gguf")
        folder = converted(sha256, tmp_path / "cache" / "models" / f"gguf-{sha256[:16]}")
        assert names.find(str(tmp_path / "a.gguf")) == folder
        (folder / "config.json").write_text("{}")
        with pytest.raises(names.LanguageModelError, match="cannot be read as a GGUF model"):  # it is none
            names.find(str(tmp_path / "a.gguf"))

    def test_the_name_means_the_folder_in_the_cache(self, converted):
        with pytest.raises(names.LanguageModelError, match=re.escape("`mfr model smollm2` fetches it once")):
            names.find(SMOLLM2)
        folder = converted(ARCHIVED[SMOLLM2], smollm2_folder())
        assert names.find(SMOLLM2) == folder
        assert names.identity_of(SMOLLM2) == Identity("smollm2")
