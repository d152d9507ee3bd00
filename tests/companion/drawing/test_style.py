"""Every figure is drawn in the book's style, or its text stays black on a dark page."""

import ast
from pathlib import Path

BOOK = Path(__file__).resolve().parents[3] / "book" / "mfrbook"


def named(node):
    return getattr(node, "id", getattr(node, "attr", None))


def functions():
    for path in sorted(BOOK.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                calls = {named(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)}
                yield (
                    f"{path.relative_to(BOOK)}:{node.name}",
                    any(named(one) == "styled" for one in node.decorator_list),
                    named(node.returns) == "Plot",
                    "new_axes" in calls,
                )


def test_what_draws_a_figure_is_styled_and_nothing_else_is():
    found = [*functions()]
    assert sum(styled for _, styled, _, _ in found) > 20
    plain = [name for name, styled, plot, draws in found if plot and draws and not styled]
    assert plain == []
    assert [name for name, styled, plot, _ in found if styled and not plot] == []
