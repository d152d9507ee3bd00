"""The page for those who take SAEs elsewhere: its code runs, its tables are what was measured."""

import json
import re

import pytest

from mfrbook.pages import interop
from mfrbook.store.provenance import PROJECT

BLOCKS = re.findall(r"```python\n(.*?)```", (PROJECT / "book" / "take-away.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """But for the lines in SAELens, which `tests/interop` runs."""
    monkeypatch.chdir(tmp_path)
    own = [block for block in BLOCKS if "import sae_lens" not in block]
    assert len(own) == len(BLOCKS) - 1 == 5
    session: dict = {}
    exec(compile("\n".join(own), "take-away.md", "exec"), session)
    assert {one.name for one in tmp_path.iterdir()} == {"my-sae", "for-saelens", "for-sparsify", "for-hub"}
    assert len([line for line in capsys.readouterr().out.splitlines() if "local directory" not in line]) == 5
    assert session["cleaned"].get_data().shape == session["raw"].get_data().shape


def test_the_kept_comparison_is_whole_and_within_its_limits():
    found = json.loads((PROJECT / "book" / "results" / "interop.json").read_text())
    assert set(found) == {"made", "sae-lens", "eai-sparsify", "dictionary-learning", "overcomplete", "language model"}
    for name in set(found) - {"made", "language model"}:
        for row in found[name]["rows"]:
            if not row["rows_with_negatives"]:
                assert row["difference"] <= found["made"]["limits"]["difference"] * max(1, row["scale"])
    assert all(row["difference"] <= found["made"]["limits"]["nats"] for row in found["language model"]["rows"])


def test_the_page_has_a_row_for_everything_that_was_measured(tmp_path):
    found = json.loads((PROJECT / "book" / "results" / "interop.json").read_text())
    (tmp_path / "book" / "executed").mkdir(parents=True)
    interop.write(tmp_path, tmp_path / "book" / "executed")
    assert (tmp_path / "book" / "executed" / "interop.md").read_text() == "Not measured.\n"
    (tmp_path / "book" / "results").mkdir()
    (tmp_path / "book" / "results" / "interop.json").write_text(json.dumps(found))
    interop.write(tmp_path, tmp_path / "book" / "executed")
    page = (tmp_path / "book" / "executed" / "interop.md").read_text()
    rows = sum(len(one["rows"]) for name, one in found.items() if name != "made")
    assert len([line for line in page.splitlines() if line.startswith("| ")]) == rows + 4
    assert found["made"]["date"] in page
    assert "nan" not in page


@pytest.mark.parametrize(
    "name",
    [
        "train",
        "save",
        "load",
        "encode",
        "to_saelens",
        "to_sparsify",
        "load_foreign",
        "mmcs",
        "evaluate",
        "from_pretrained",
        "EEGDenoiser",
    ],
)
def test_the_page_shows_each_public_way(name):
    assert f"{name}(" in "\n".join(BLOCKS)
