"""Frozen dataclass configs: unknown names, wrong types and impossible values are refused at once.

A config is a frozen dataclass whose fields carry a line of documentation in ``field(metadata={"help": ...})`` and whose
``__post_init__`` calls `require_types`, then `require` for each rule.
"""

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

MANY = 60  # names that one would still read through


class ConfigError(ValueError):
    """A parameter that does not exist, has the wrong type, or an impossible value."""


def option(default: Any, help: str, *, introduced: Any = dataclasses.MISSING, in_key: bool = True) -> Any:
    """Declare a config field; `help` is one line: what it is, its unit, where the paper says it.

    Runs are keyed by the fields that differ from the default they were `introduced` with, so that a new switch, or a new
    default, orphans no run. A field that changes no results is not `in_key`.
    """
    first = default if introduced is dataclasses.MISSING else introduced
    return dataclasses.field(default=default, metadata={"help": help, "introduced": first, "in_key": in_key})


def require(condition: bool, name: str, given: object, allowed: str) -> None:
    """Raise `ConfigError` naming the field, the value given and what is allowed, unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{name}: {allowed}, given {given!r}")


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number as Python's own; ConfigError if it is none, or less than `least`."""
    number = checked({name: value}, {name: int})[name]
    require(number >= least, name, number, f"must be {least} or more")
    return number


def checked(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as parameters of given types have them: NumPy's numbers and arrays become Python's, lists tuples.

    Raises ConfigError if a name is none of the parameters, with the nearest that is; or if a value has another type.
    """
    found = {}
    for name, value in values.items():
        if name not in hints:
            raise unknown_name(name, hints)
        value = plain(value)
        require(conforms(value, hints[name]), name, value, f"must be {describe(hints[name])}")
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def require_types(config: Any) -> None:
    """Raise `ConfigError` unless every field of a config has its type, which Python does not enforce; see `checked`."""
    hints = _hints(config.__class__)
    for name, value in checked({name: getattr(config, name) for name in hints}, hints).items():
        object.__setattr__(config, name, value)


_hints = cache(get_type_hints)


def unknown_name(name: str, known: Iterable[str], what: str = "parameter") -> ConfigError:
    """Return the error for a name that does not exist, with the nearest one that does."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    more = f" and {len(known) - MANY:,} more" if len(known) > MANY else ""
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known[:MANY])}{more}"
    return ConfigError(f"unknown {what} {name!r}; {hint}")


def plain(value: Any) -> Any:
    """Return numbers, strings and arrays of NumPy, and tensors, as Python's own; any other value as it is.

    An integer stays one, and so does a truth value, of whatever library.
    """
    if type(value) in (list, tuple, range):
        return (list if type(value) is list else tuple)(map(plain, value))
    if hasattr(value, "tolist") and hasattr(value, "dtype") and hasattr(value, "ndim"):
        return value.tolist()
    return value


def conforms(value: object, hint: Any) -> bool:
    """Tell whether a value has a type hint's type; an int passes for a float, a list for a tuple, never a bool for an int."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(conforms(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if origin in (tuple, list):
        return isinstance(value, tuple | list) and all(conforms(one, arguments[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if hint is types.NoneType else isinstance(value, hint)


def describe(hint: Any) -> str:
    """Put a type hint into words for an error message."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(one) for one in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(one) for one in arguments)
    if origin in (tuple, list):
        return f"a list of {describe(arguments[0])}"
    return "null" if hint is types.NoneType else hint.__name__


def key_fields(config: Any) -> dict[str, Any]:
    """Return the fields that identify a run: those that differ from the default they were introduced with.

    A whole float is given as an int, so that 3 and 3.0 are one value.
    """
    values = dataclasses.asdict(config)
    return {
        field.name: int(value) if isinstance(value := values[field.name], float) and value.is_integer() else value
        for field in dataclasses.fields(config)
        if field.metadata.get("in_key", True) and values[field.name] != field.metadata.get("introduced", field.default)
    }
