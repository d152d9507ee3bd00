"""Fields that configs once had, or had not yet, in the archive and on older command lines."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from mfrlib.config import require, unknown_name

C = TypeVar("C")
RETIRED: Mapping[str, tuple[Any, ...]] = {"search": ("fp32", "bf16"), "real": (False, True), "suited": (0, 1, 4)}
"""Each with the values under which today's results are those of then."""


def without_retired(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields without those that no config has any more.

    Raises
    ------
    ConfigError
        If one of these has a value that today's code does not serve.
    """
    for name, served in RETIRED.items():
        allowed = f"is retired, and only {' or '.join(map(repr, served))} may still be given; leave it out"
        require(name not in values or values[name] in served, name, values.get(name), allowed)
    return {name: value for name, value in values.items() if name not in RETIRED}


def build(kind: type[C], values: Mapping[str, Any]) -> C:
    """Make a config from names and values as a command line or a notebook gives them; they may hold retired fields.

    Unknown names are refused here, types and values by the config itself (ConfigError).
    """
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given = without_retired(values)
    for name in given:
        if name not in names:
            raise unknown_name(name, names)
    return kind(**given)


def complete(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config as an archived run has them: those that came after the run have what they were introduced with.

    So two runs that differ in nothing compare as equal, whenever they were made.
    """
    return {
        field.name: values.get(field.name, field.metadata.get("introduced", field.default))
        for field in dataclasses.fields(kind)
    }
