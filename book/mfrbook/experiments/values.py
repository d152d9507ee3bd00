"""Values of parameters as people write them on a command line, read by the type that the parameter has."""

import ast
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_type_hints

from mfrlib.config import ConfigError, conforms, describe, require


def parse_pairs(pairs: Sequence[str], hints: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read `name=value` pairs.

    Parameters
    ----------
    hints
        Types of the parameters that are known. What reads as something else and is to be a string is the text as written,
        such as a folder named 2024.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"-p: name=value, given {pair!r}")
        require(name not in found, "-p", pair, f"{name} is given twice")
        require(
            bool(text.strip()),
            "-p",
            pair,
            f"needs a value, such as of a variable that is set; null stands for {name}'s default",
        )
        found[name] = parse_value(text)
        hint = (hints or {}).get(name)
        if hint is not None and found[name] is not None and not conforms(found[name], hint) and conforms(text, hint):
            found[name] = text
    return found


def parse_value(text: str) -> Any:
    """Read a value: JSON (numbers, true, null, [12, 24]), Python (.5, True, None, (12, 24), 'text'), or else a plain string."""
    for read in (json.loads, lambda text: ast.literal_eval(text.strip())):
        try:
            found = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if _plain(found):
            return list(found) if isinstance(found, tuple) else found
    return text


def _plain(value: Any) -> bool:
    """Tell what JSON can hold from bytes, complex numbers, sets and other things that Python writes too."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) for name in value) and all(map(_plain, value.values()))
    return value is None or isinstance(value, str | int | float)


def config_class(experiment: Any) -> Any:
    """Return the config that an experiment's module runs."""
    return get_type_hints(experiment.run)["config"]


def listed_fields(config: Any, defaults: Any) -> str:
    """List the fields of a config for people, with the defaults of one of them, which a profile gives."""
    hints = get_type_hints(config)
    return listed(
        (field.name, hints[field.name], getattr(defaults, field.name), field.metadata.get("help", ""))
        for field in dataclasses.fields(config)
    )


def listed(parameters: Iterable[tuple[str, Any, Any, str]]) -> str:
    """List parameters for people: name, type, default, and what it is."""
    return "\n".join(
        f"  {name}: {describe(hint)} = {json.dumps(default, ensure_ascii=False)}\n      {about}"
        for name, hint, default, about in parameters
    )
