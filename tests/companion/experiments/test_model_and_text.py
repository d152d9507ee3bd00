from mfrbook.experiments.model_and_text import text_name


def test_the_name_of_a_text_holds_no_path(tmp_path):
    assert text_name(str(tmp_path / "a.jsonl")) == "a.jsonl"
    assert text_name("python-docs") == "python-docs"
    assert text_name("Skylion007/openwebtext") == "Skylion007/openwebtext"
