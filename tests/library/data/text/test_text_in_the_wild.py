"""Text as crawlers, Windows and tables leave it: one rule for every kind of file, and for data sets of the hub."""

import json
import lzma
import os

import pytest

from mfrlib.data.text.documents import TextError, cleaned, documents, identity_of
from mfrlib.language_models.language_model import LanguageModelError
from mfrlib.language_models.tokens import open_sequences

KINDS = ("a.txt", "a.jsonl", "a.jsonl.xz", "a.parquet")
MARK = "\ufeff"


def both(path):
    return sorted(one.strip() for side in ("train", "held-out") for one in documents(str(path), side))


def write(path, rows, before=b""):
    """Write documents; JSON lines may hold what UTF-8 cannot."""
    if path.name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": rows}), path)
    elif path.name.endswith(".txt"):
        path.write_bytes(before + "\n<|endoftext|>\n".join(rows).encode())
    else:
        lines = before + b"".join(json.dumps({"text": one}).encode() + b"\n" for one in rows)
        path.write_bytes(lzma.compress(lines) if path.name.endswith(".xz") else lines)
    return path


class TestHalvesOfCharacters:
    def test_half_an_emoji_becomes_the_replacement_character(self, tmp_path):
        assert both(write(tmp_path / "a.jsonl", ["half \ud83d of it", "other \udc00"])) == ["half � of it", "other �"]
        assert both(write(tmp_path / "b.jsonl.xz", ["half \ud83d of it"])) == ["half � of it"]

    def test_as_bytes_too(self, tmp_path):
        """As C and Java write them: no UTF-8, but the same half of a character."""
        (tmp_path / "a.txt").write_bytes(b"half \xed\xa0\xbd of it")
        (tmp_path / "a.jsonl").write_bytes(b'{"text": "half \xed\xa0\xbd of it"}')
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        offsets = pyarrow.array([0, 14], pyarrow.int32()).buffers()[1]
        held = pyarrow.py_buffer(b"half \xed\xa0\xbd of it")
        column = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, held])
        parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
        assert both(tmp_path) == 3 * ["half � of it"]

    def test_documents_that_one_has_go_the_same_way(self, tiny_lm):
        plain = ["some plain words " * 40, "more words " * 40]
        wild = [None, MARK + plain[0], "", plain[1]]
        found = [open_sequences(tiny_lm, one, n_sequences=4, length=16).tokens for one in (plain, wild)]
        assert (found[0] == found[1]).all()
        assert open_sequences(tiny_lm, ["half \ud83d " * 40], n_sequences=1, length=16).tokens.shape == (1, 16)
        for other, words in (
            (["a", b"b"], "document 1: must be a string"),
            ({"text": plain}, "such as a table's column 'text', given a dict"),  # which would give the word "text"
            (7, "must be a name, a path, or documents"),
        ):
            with pytest.raises(ValueError, match=words):
                open_sequences(tiny_lm, other, n_sequences=4, length=16)
        with pytest.raises(LanguageModelError, match=r"must be a list of strings, .* given 'one string'"):
            tiny_lm.encode("one string")

    def test_such_text_becomes_tokens(self, tmp_path, tiny_lm):
        rows = [f"half an emoji \ud83d and more words {i} " * 5 for i in range(60)]
        found = open_sequences(tiny_lm, str(write(tmp_path / "a.jsonl", rows)), n_sequences=20, length=32)
        assert found.tokens.shape == (20, 32)

    def test_data_sets_of_the_hub_too_and_two_halves_that_belong_together_are_the_character(self, monkeypatch):
        datasets = pytest.importorskip("datasets")
        texts = ["half \ud83d", None, MARK + "marked", "a \ud83d\ude00 b \ude00\ud83d c", "plain ☂ é 😀"]
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [{"text": one} for one in texts])
        assert both("someone/something") == ["a 😀 b �� c", "half �", "marked", "plain ☂ é 😀"]


class TestByteOrderMarks:
    @pytest.mark.parametrize("name", KINDS)
    def test_the_mark_is_no_part_of_a_document(self, tmp_path, name):
        rows = [MARK + "one", "two", 2 * MARK + "three"]  # as rows of files that were put together have them
        assert both(write(tmp_path / name, rows, 2 * MARK.encode())) == ["one", "three", "two"]

    def test_a_separator_in_the_first_line_is_one(self, tmp_path):
        (tmp_path / "a.txt").write_text("<|endoftext|>\nhello\n", encoding="utf-8-sig")
        assert both(tmp_path / "a.txt") == ["hello"]

    def test_files_put_together(self, tmp_path):
        line = (MARK + '{"text": "one"}\r\n').encode()
        (tmp_path / "a.jsonl").write_bytes(line + line.replace(b"one", b"two"))
        assert both(tmp_path / "a.jsonl") == ["one", "two"]
        (tmp_path / "a.txt").write_bytes((MARK + "one\r\n" + MARK + "<|endoftext|>\r\ntwo\r\n").encode())
        assert both(tmp_path / "a.txt") == ["one", "two"]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
    @pytest.mark.parametrize(("name", "mark"), [("a.txt", ""), ("a.txt", MARK), ("a.jsonl", "")])
    def test_another_encoding_is_named(self, tmp_path, encoding, name, mark):
        """By its mark or, where it has none, by the zeros beside its first letter."""
        (tmp_path / name).write_bytes((mark + '{"text": "hello"}').encode(encoding))
        with pytest.raises(TextError, match=rf"{name}: is UTF-16 or UTF-32; convert the file to UTF-8"):
            both(tmp_path / name)

    def test_a_mark_within_a_document_stays(self, tmp_path):
        assert both(write(tmp_path / "a.jsonl", [f"zero{MARK}width"])) == [f"zero{MARK}width"]


class TestMissing:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
    def test_a_missing_text_is_passed_over(self, tmp_path, name):
        assert both(write(tmp_path / name, ["one", None, "two"])) == ["one", "two"]
        assert both(write(tmp_path / f"none.{name[2:]}", [None, None])) == []

    def test_as_tables_say_it_too(self, tmp_path, on_hub):
        rows = ["one", float("nan"), "two"]
        assert both(write(tmp_path / "a.jsonl", rows)) == ["one", "two"]
        assert [*cleaned(rows)] == ["one", "two"]
        assert both(on_hub({"text": one} for one in rows[::-1] + rows[1:2])) == ["one", "two"]

    def test_on_the_hub_too(self, on_hub):
        assert both(on_hub({"text": one} for one in (None, "one", None, "two"))) == ["one", "two"]

    @pytest.mark.parametrize("line", ["[" * 100_000, '{"text": ' + "9" * 5000 + "}", '{"txt": null}', "NULL"])
    def test_what_json_does_not_take_is_named_with_its_line(self, tmp_path, line):
        (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' + line)
        with pytest.raises(TextError, match=r"a\.jsonl, line 2: "):
            both(tmp_path / "a.jsonl")


class TestFiles:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])  # of Unix, Windows, old Macs and their spreadsheets
    def test_every_end_of_line(self, tmp_path, end):
        lines = ["one", "<|endoftext|>", "two\u2028 \x0b still", "<|endoftext|>", "three"]
        (tmp_path / "a.txt").write_bytes(end.join(lines).encode())
        assert both(tmp_path / "a.txt") == ["one", "three", "two\u2028 \x0b still"]
        (tmp_path / "a.jsonl").write_bytes(end.join(['{"text": "one"}', "", '{"text":\t"two"}', ""]).encode())
        assert both(tmp_path / "a.jsonl") == ["one", "two"]

    def test_a_text_meant_for_its_name_and_a_pipe_are_refused(self, tmp_path):
        with pytest.raises(TextError, match="documents themselves go in a list"):
            documents("A long text of many words. " * 50)
        os.mkfifo(tmp_path / "a.txt")  # reading one would wait for ever
        with pytest.raises(TextError, match="not a regular file"):
            documents(str(tmp_path / "a.txt"))

    @pytest.mark.parametrize("name", ["A.TXT", "A.JSONL", "A.jsonl.XZ", "A.Parquet"])
    def test_names_in_capitals(self, tmp_path, name):
        kind = name.lower().partition(".")[2]
        write(tmp_path / f"x.{kind}", ["one", "two"]).rename(tmp_path / name)
        assert both(tmp_path / name) == both(tmp_path) == ["one", "two"]

    def test_hidden_files_are_passed_over(self, tmp_path):
        write(tmp_path / "a.jsonl", ["one"])
        (tmp_path / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07")  # as macOS leaves them beside
        (tmp_path / ".cache").mkdir()
        (tmp_path / ".cache" / "b.txt").write_text("other")
        assert both(tmp_path) == ["one"]
        before = identity_of(str(tmp_path))
        (tmp_path / ".cache" / "b.txt").write_text("changed")
        assert identity_of(str(tmp_path)) == before

    def test_a_table_whose_bytes_are_no_text(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        offsets = pyarrow.array([0, 3], pyarrow.int32()).buffers()[1]
        column = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, pyarrow.py_buffer(b"\xed\xa0\xff")])
        parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
        with pytest.raises(TextError, match="parquet: cannot be read"):
            both(tmp_path / "a.parquet")

    def test_tables_of_other_strings(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        plain = pyarrow.array(["one", None, "two"])
        for number, column in enumerate([plain.cast(pyarrow.large_string()), plain.dictionary_encode()]):
            parquet.write_table(pyarrow.table({"text": column}), tmp_path / f"{number}.parquet")
            assert both(tmp_path / f"{number}.parquet") == ["one", "two"]
