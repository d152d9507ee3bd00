import json

import pytest


@pytest.fixture
def on_hub(tmp_path, monkeypatch):
    """Return a function that puts rows on the hub, from where their library streams them, and names the data set."""
    datasets = pytest.importorskip("datasets")
    load, folder = datasets.load_dataset, tmp_path / "hub"
    folder.mkdir()

    def put(rows):
        (folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        monkeypatch.setattr(datasets, "load_dataset", lambda _, **options: load(str(folder), **options))
        return "someone/something"

    return put
