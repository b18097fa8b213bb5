"""Knobs: a field's value is of its type, whether given as a value or as text."""

from __future__ import annotations

import math

import pytest

from kdgan_core.config import FIELDS, TrialConfig, parse_value

NUMBERS = [f.name for f in FIELDS if type(f.default) in (int, float)]
WHOLE_NUMBERS = [f.name for f in FIELDS if type(f.default) is int]
FLAGS = [f.name for f in FIELDS if isinstance(f.default, bool)]
BASE = TrialConfig(dataset="digits", architecture="small", valid_size=200, train_size=100)


def test_every_field_is_of_a_tested_kind() -> None:
    words = {f.name for f in FIELDS if isinstance(f.default, str)}
    assert {*NUMBERS, *FLAGS, *words, "seeds"} == {field.name for field in FIELDS}
    assert set(FLAGS) == {"mirroring", "authors_statistic", "log_gradient_variance"}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "many", None, True])
def test_a_number_must_be_one(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name}={value!r} is not a (whole|finite) number"):
        BASE.replace(**{name: value})


def test_a_whole_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^beta=1000.* is not a finite number"):
        BASE.replace(beta=10**400)


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_a_whole_number_must_be_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=20.5 is not a whole number"):
        BASE.replace(**{name: 20.5})


@pytest.mark.parametrize("value", [3, "01", (0, 0.5), (0, math.inf), (True,), None])
def test_seeds_must_be_whole_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"^seeds=.* is not whole numbers"):
        BASE.replace(seeds=value)


def test_a_large_seed_is_kept_exactly() -> None:
    seed = 2**53 + 1  # the first whole number that a float cannot hold
    assert BASE.replace(seeds=(seed,)).seeds == (seed,)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize(
    "value, expected",
    [
        (True, True), (1, True), ("true", True), ("True", True), ("on", True), ("1", True),
        (False, False), (0, False), ("false", False), ("off", False), ("0", False),
    ],
)  # fmt: skip
def test_a_flag_has_six_spellings_and_one_id(name: str, value: object, expected: bool) -> None:
    config = BASE.replace(**{name: value})
    assert getattr(config, name) is expected
    assert config.trial_id == BASE.replace(**{name: expected}).trial_id
    assert parse_value(name, str(value)) is expected


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [None, 2, 0.5, -1, "yes", "", math.nan, ()])
def test_a_flag_must_be_true_or_false(name: str, value: object) -> None:
    with pytest.raises(ValueError) as error:
        BASE.replace(**{name: value})
    assert str(error.value) == f"{name}={value!r} is not true or false"


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("alpha", "0.3", 0.3),
        ("beta", "1e3", 1000.0),
        ("steps", "500", 500),
        ("method", "nagan", "nagan"),
        ("mirroring", "on", True),
        ("seeds", "0,1,2", (0, 1, 2)),
        ("seeds", "7", (7,)),
        ("seeds", " 4, 5, ", (4, 5)),
    ],
)
def test_text_is_parsed_by_the_fields_type(name: str, text: str, value: object) -> None:
    parsed = parse_value(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "name, text",
    [("alpha", "a lot"), ("steps", "2.5"), ("seeds", "0,one"), ("alpha", "nan"), ("cutout", "on")],
)
def test_text_of_another_type_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}="):
        parse_value(name, text)
