"""Docstrings read off source files."""

import ast
import itertools

import pytest

from mfrbook.experiments import docstrings


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of our own in place of the libraries."""
    root = tmp_path / f"ours_{tmp_path.name}"
    (root / "tests").mkdir(parents=True)

    def write(name, source):
        (root / name).write_text(source)

    write("__init__.py", '"""The first module of our own package, long enough to be kept."""\n')
    monkeypatch.setattr(docstrings, "PACKAGES", (root.name,))
    monkeypatch.setattr("pydoc_data.topics.topics", {})
    monkeypatch.syspath_prepend(tmp_path)
    return write


def everything():
    return [*docstrings.documents("train"), *docstrings.documents("held-out")]


def test_modules_classes_and_functions_of_any_depth(package):
    package(
        "deep.py",
        '''
raise SystemExit("a module is read, not imported")
if True:
    class A:
        """The class: a docstring of more than forty characters, kept.

        Plain.
            Indented further.
        """
        async def f(self):
            """The method: a docstring of more than forty characters, kept."""
            def g():
                """The inner function: more than forty characters as well."""
def short():
    """Too short."""
x = """A string that is no docstring, however long it may be, is left out."""
''',
    )
    found = everything()
    assert sorted(one.split(":")[0] for one in found if ":" in one) == ["The class", "The inner function", "The method"]
    assert "The class: a docstring of more than forty characters, kept.\n\nPlain.\n    Indented further." in found
    assert len(found) == 4


def test_tests_and_code_that_cannot_be_parsed_are_left_out(package):
    package("tests/a.py", '"""A docstring in a test module, which is left out whatever its length."""')
    package("test_b.py", '"""A docstring in a test module, which is left out whatever its length."""')
    package("template.py", '"""A docstring in a file that is no Python, which is left out."""\n{{ name }} = = 3')
    assert len(everything()) == 1


def test_a_docstring_stands_once(package):
    same = '"""The same docstring in two modules, as inherited ones often are."""'
    for number in range(40):
        package(f"m{number}.py", same)
    assert list(docstrings.documents("train")).count(ast.literal_eval(same)) == 1


def test_a_module_is_on_one_side(package):
    for number in range(200):
        package(f"m{number}.py", f'"""Docstring number {number} of very many, each in a module of its own."""')
    sides = {split: {one for one in docstrings.documents(split) if "number" in one} for split in ("train", "held-out")}
    assert len(sides["train"]) + len(sides["held-out"]) == 200
    assert not sides["train"] & sides["held-out"]
    assert 5 <= len(sides["held-out"]) <= 40  # a tenth: 20 give or take


def test_the_libraries_documentation_is_there_and_mixed():
    first = list(itertools.islice(docstrings.documents("train"), 300))
    assert sum(map(len, first)) > 50_000
    assert len(set(first)) == 300
    again = list(itertools.islice(docstrings.documents("train"), 300))
    assert first == again
