"""Files of text of every kind, and every way in which they can be broken."""

import itertools
import json
import lzma

import pytest

from mfrlib.data.text.documents import TextError, documents

DOCUMENTS = [f"Document {number}, with é and ☂ in it.\nA second line." for number in range(60)]


def both(text):
    return [*documents(str(text)), *documents(str(text), "held-out")]


def as_jsonl(rows):
    return "".join(json.dumps({"text": one, "id": 3}) + "\n" for one in rows).encode()


def write(path, rows=DOCUMENTS):
    match "".join(path.suffixes):
        case ".txt":
            path.write_text("<|endoftext|>\n".join(f"{one}\n" for one in rows))
        case ".jsonl":
            path.write_bytes(as_jsonl(rows))
        case ".jsonl.xz":
            path.write_bytes(lzma.compress(as_jsonl(rows)))
        case ".parquet":
            pyarrow = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            parquet.write_table(pyarrow.table({"text": rows, "id": list(range(len(rows)))}), path)
    return path


KINDS = ("a.txt", "a.jsonl", "a.jsonl.xz", "a.parquet")


class TestRead:
    @pytest.mark.parametrize("name", KINDS)
    def test_every_kind_gives_the_same_documents(self, tmp_path, name):
        assert sorted(one.strip() for one in both(write(tmp_path / name))) == sorted(DOCUMENTS)

    def test_a_folder_is_its_files_in_order_and_others_are_passed_over(self, tmp_path):
        for number, name in enumerate(KINDS):
            write(tmp_path / name, DOCUMENTS[15 * number : 15 * number + 15])
        (tmp_path / "README.md").write_text("no text")
        assert sorted(one.strip() for one in both(tmp_path)) == sorted(DOCUMENTS)

    def test_sides_share_no_document_and_a_double_stays_on_its_side(self, tmp_path):
        text = str(write(tmp_path / "a.jsonl", DOCUMENTS * 2))
        train, held_out = list(documents(text)), list(documents(text, "held-out"))
        assert not set(train) & set(held_out)
        assert 1 <= len(held_out) / 2 <= 15
        assert len(train) + len(held_out) == 120

    def test_empty_documents_are_left_out(self, tmp_path):
        assert both(write(tmp_path / "a.jsonl", ["", " \n", "one"])) == ["one"]

    def test_documents_are_opened_only_as_far_as_needed(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(as_jsonl(DOCUMENTS) + b"broken")
        assert len(list(itertools.islice(documents(str(path)), 10))) == 10

    def test_names_below_the_data_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MFR_DATA", str(tmp_path))
        (tmp_path / "text").mkdir()
        write(tmp_path / "text" / "mine.jsonl")
        assert len(both("mine.jsonl")) == 60

    def test_web_text(self, real_data):
        first = next(iter(documents("digitalgov.jsonl.xz")))
        assert len(first) > 100

    def test_a_data_set_is_streamed_by_the_library(self, on_hub):
        assert sorted(both(on_hub({"text": one, "id": 3} for one in DOCUMENTS))) == sorted(DOCUMENTS)


class TestRefused:
    def refused(self, text, match):
        with pytest.raises(TextError, match=match):
            both(text)

    def test_a_line_without_text(self, tmp_path):
        path = tmp_path / "a.jsonl"
        for line, says in [
            ('{"body": "x"}', "needs a field 'text' that is a string; there is: 'body'"),
            ('{"text": 3}', "there is: 'text', with int in 'text'"),
            ("[1]", "there is: list"),
            ("text", "not JSON"),
        ]:
            path.write_bytes(as_jsonl(["one", "two"]) + line.encode())
            self.refused(path, f"a.jsonl, line 3: .*{says}")

    def test_a_file_cut_short(self, tmp_path):
        path = write(tmp_path / "a.jsonl.xz")
        path.write_bytes(path.read_bytes()[:-20])
        self.refused(path, "a.jsonl.xz: cannot be read, damaged or cut short")
        path.write_bytes(b"no xz at all")
        self.refused(path, "damaged or cut short")
        path = write(tmp_path / "a.parquet")
        path.write_bytes(path.read_bytes()[:-20])
        self.refused(path, "a.parquet: cannot be read, damaged or cut short")

    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
    def test_bytes_that_are_not_utf8(self, tmp_path, name):
        path = tmp_path / name
        path.write_bytes(b'{"text": "one"}\n{"text": "caf\xe9"}\n')
        self.refused(path, f"{name}, line 2: byte 14 of the line, 0xe9, is not UTF-8")

    def test_a_table_without_a_column_of_text(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
        self.refused(tmp_path / "a.parquet", "needs a column 'text' of strings; there are: body")

    def test_unknown_kinds(self, tmp_path):
        (tmp_path / "a.docx").write_text("text")
        self.refused(tmp_path / "a.docx", "unknown kind of file; there are: .txt, .jsonl, .jsonl.xz, .parquet")
        self.refused(tmp_path, "no file that can be read")

    @pytest.mark.parametrize("text", ["nowhere.txt", "/no/such/folder", "no/such/file.jsonl", "openwebtext", ""])
    def test_what_is_not_there(self, text, monkeypatch):
        monkeypatch.delenv("MFR_DATA", raising=False)
        self.refused(text, "no such file or folder; MFR_DATA")

    def test_a_data_set_without_text(self, on_hub):
        self.refused(on_hub([{"body": "x"}]), "its rows have no field 'text'; there are: body")

    def test_a_data_set_of_the_hub_offline(self):
        pytest.importorskip("datasets")
        self.refused("Skylion007/openwebtext", "unset HF_HUB_OFFLINE.*give a file")

    def test_an_unknown_side(self):
        with pytest.raises(ValueError, match="split: must be one of 'train', 'held-out', given 'test'"):
            documents("python-docs", "test")
