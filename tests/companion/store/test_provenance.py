"""What a run says of its origin."""

import subprocess

import pytest

from mfrbook.store import behaviour, provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small repository in place of the project's, and a function that calls git in it."""
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)

    def git(*arguments: str) -> str:
        line = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "book" / "results").mkdir(parents=True)
    for name in ("code.py", "book/results/run.json"):
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    return tmp_path, git


def test_the_commit_is_named_and_changes_are_told_those_of_the_archive_aside(checkout):
    folder, git = checkout
    head = git("rev-parse", "HEAD")
    assert len(head) == 40
    assert provenance.commit() == {"commit": head, "dirty": False}
    (folder / "book" / "results" / "run.json").write_text("2")
    assert provenance.commit() == {"commit": head, "dirty": False}
    (folder / "code.py").write_text("2")
    assert provenance.commit() == {"commit": head, "dirty": True}
    git("commit", "-q", "-a", "-m", "two")
    assert provenance.commit() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    assert provenance.commit()["commit"] != head


def test_outside_a_checkout_no_commit_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == {"commit": None, "dirty": None}


def test_a_run_says_which_behaviour_made_it():
    found = provenance.provenance("coverage")
    assert found["behaviour"] == behaviour.BEHAVIOUR["coverage"]
    assert found["built_on"] == {"synthetic": behaviour.BEHAVIOUR["synthetic"]}
