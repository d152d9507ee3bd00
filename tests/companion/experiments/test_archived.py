import json

import pytest

from mfrbook.experiments.archived import located_text
from mfrlib.data.text.documents import TextError


def test_other_articles_than_those_that_the_name_stands_for(tmp_path, monkeypatch):
    monkeypatch.delenv("MFR_DATA", raising=False)
    with pytest.raises(TextError, match="MFR_DATA is not set"):
        located_text("web-articles")
    monkeypatch.setenv("MFR_DATA", str(tmp_path))
    with pytest.raises(TextError, match=r"text 'web-articles': .*text does not hold them"):
        located_text("web-articles")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jsonl").write_text(json.dumps({"text": "another article"}))
    with pytest.raises(TextError, match=r"text 'web-articles': .*text does not hold them"):
        located_text("web-articles")
