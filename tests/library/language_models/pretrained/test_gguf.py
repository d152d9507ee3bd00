"""GGUF files: what can go wrong is said in one sentence."""

import pytest

pytest.importorskip("gguf")

from mfrlib.language_models.pretrained.gguf import GGUFError, convert


@pytest.mark.parametrize("content", [b"GGUF\x03\x00\x00\x00 cut off", b"no GGUF at all"])
def test_a_file_that_is_no_model(tmp_path, content):
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    with pytest.raises(GGUFError, match=r"broken\.gguf cannot be read as a GGUF model"):
        convert(file, tmp_path / "models" / "broken")
    assert not (tmp_path / "models" / "broken").exists()
