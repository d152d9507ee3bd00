from dataclasses import dataclass
from typing import Literal

import pytest

from mfrbook.store.retired import build
from mfrlib.config import ConfigError, conforms, key_fields, option, require, require_types


@dataclass(frozen=True, kw_only=True)
class Oven:
    temperature: float = option(180.0, "°C")
    minutes: int = option(40, "time")
    fan: bool = option(False, "fan on")
    shelf: Literal["top", "middle"] = option("middle", "where")
    limit: float | Literal["auto"] = option("auto", "°C")
    racks: int | tuple[int, ...] = option(1, "one, or several")
    note: str | None = option(None, "words")
    light: bool = option(True, "does not change the cake", in_key=False)
    humidity: float = option(0.5, "came later, and its default moved", introduced=0.0)

    def __post_init__(self):
        require_types(self)
        require(self.minutes >= 0, "minutes", self.minutes, "must be 0 or more")


def test_build_sets_what_is_given_and_leaves_the_rest():
    oven = build(Oven, {"minutes": 5, "racks": [1, 3], "limit": 200})
    assert oven == Oven(minutes=5, racks=(1, 3), limit=200)
    assert hash(oven)  # a list would not be hashable, and would differ from the tuple in a comparison


@pytest.mark.parametrize(
    ("name", "nearest"), [("minuts", "minutes"), ("Temperature", "temperature"), ("shelve", "shelf")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=f"{name}.*did you mean '{nearest}'"):
        build(Oven, {name: 1})


def test_a_name_unlike_all_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="'zzz'; there are: fan, humidity, light"):
        build(Oven, {"zzz": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minutes", True),
        ("minutes", 5.0),
        ("minutes", "5"),
        ("minutes", None),
        ("minutes", [5]),
        ("temperature", True),
        ("temperature", "180"),
        ("temperature", None),
        ("fan", 1),
        ("fan", "true"),
        ("shelf", "bottom"),
        ("shelf", 1),
        ("limit", "manual"),
        ("limit", False),
        ("racks", [1, 2.0]),
        ("racks", [True]),
        ("racks", "12"),
        ("racks", {"a": 1}),
        ("note", 3),
    ],
)
def test_a_wrong_type_is_refused_naming_field_and_value(name, value):
    with pytest.raises(ConfigError) as raised:
        build(Oven, {name: value})
    assert str(raised.value).startswith(f"{name}: must be ")
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [(1, float), (1.5, float), ([1, 2], tuple[int, ...]), ((1,), list[int]), (None, int | None), ("a", Literal["a"])],
)
def test_what_conforms(value, hint):
    assert conforms(value, hint)


def test_literals_are_told_apart_by_type():
    assert not conforms(True, Literal[1, 3])
    assert not conforms(1.0, Literal[1, 3])
    assert conforms(3, Literal[1, 3])


def test_an_impossible_value_names_the_field_the_value_and_what_is_allowed():
    with pytest.raises(ConfigError, match=r"^minutes: must be 0 or more, given -1$"):
        build(Oven, {"minutes": -1})


def test_configs_are_frozen():
    with pytest.raises(AttributeError):
        Oven().minutes = 3


def test_key_fields_are_those_that_differ_from_the_introduced_default():
    assert key_fields(Oven(humidity=0.0)) == {}
    assert key_fields(Oven()) == {"humidity": 0.5}  # today's default is not the one the field began with
    assert key_fields(Oven(humidity=0.0, light=False)) == {}
    assert key_fields(Oven(humidity=0.0, minutes=5)) == {"minutes": 5}


def test_key_fields_do_not_tell_3_from_3_point_0():
    one, other = Oven(temperature=200), Oven(temperature=200.0)
    assert repr(key_fields(one)) == repr(key_fields(other))
    assert isinstance(key_fields(Oven(fan=True))["fan"], bool)
