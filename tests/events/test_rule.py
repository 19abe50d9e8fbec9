from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import OptionError
from rtseg.events.rule import Rule, parse_rule, parse_rules

CLASSES = ("Road", "Car", "Pedestrian", "Traffic Sign")


def test_the_rule_of_the_documentation_is_read() -> None:
    text = "Pedestrian > 2% for 1s in gate"
    assert parse_rule(text) == Rule("pedestrian-in-gate", text, ("Pedestrian",), ">", 2, "%", 1.0, "gate")


def test_every_clause_is_read_in_any_order() -> None:
    rule = parse_rule("vehicles: Car + Traffic Sign >= 3 objects cooldown 1min of 200px until 2 in yard for 500ms")
    assert (rule.name, rule.classes, rule.operator) == ("vehicles", ("Car", "Traffic Sign"), ">=")
    assert (rule.threshold, rule.unit, rule.until, rule.smallest_px) == (3, "objects", 2, 200)
    assert (rule.for_s, rule.cooldown_s, rule.region) == (0.5, 60, "yard")


@pytest.mark.parametrize("text", ["Car<5px", "Car <= 5 pixels", "Car>1.5%", "Car > 1 object"])
def test_blanks_and_plurals_do_not_matter(text: str) -> None:
    assert parse_rule(text).classes == ("Car",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be CLASS > NUMBER%"),
        ("Car", "must be CLASS > NUMBER%"),
        ("Car > 2", "must be CLASS > NUMBER%.*units are %, px and objects"),
        ("Car = 2%", "must be CLASS > NUMBER%"),
        ("Car > -2%", "must be CLASS > NUMBER%"),
        ("Car > 2 metres", "must be CLASS > NUMBER%"),
        ("> 2%", "must be CLASS > NUMBER%"),
        ("Car + > 2%", "class name on each side"),
        ("Car > 2% fro 1s", "'fro' is not known here: did you mean for"),
        ("Car > 2% for", "a value is missing after for"),
        ("Car > 2% for 1s for 2s", "for is given twice"),
        ("Car > 2% for 1", "for takes a time such as 500ms, 2s or 1min, got '1'"),
        ("Car > 2% until x", "'x' is not a number"),
        ("Car > 200%", "at most 100%"),
        ("Car > 2.5px", "whole number"),
        ("Car > 2% of 20px", "smallest size of objects"),
        ("Car > 2% until 3", "other side of the threshold 2"),
        ("Car < 2% until 1", "other side of the threshold 2"),
        ("Car < 0%", "write <= 0"),
        ("Car > 100%", "write >= 100%"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)


def test_class_names_are_found_whatever_their_case_and_wrong_ones_get_a_suggestion() -> None:
    assert parse_rule("pedestrian + TRAFFIC SIGN > 1%").class_ids("m", CLASSES) == (2, 3)
    with pytest.raises(OptionError, match="m has no class 'Pedestrain': did you mean Pedestrian"):
        parse_rule("Pedestrain > 1%").class_ids("m", CLASSES)
    with pytest.raises(OptionError, match="no class 'Zebra': known are Road, Car"):
        parse_rule("Zebra > 1%").class_ids("m", CLASSES)


def test_the_region_of_a_rule_must_exist() -> None:
    rule = parse_rule("Car > 1% in gat")
    with pytest.raises(OptionError, match="no region 'gat': did you mean gate"):
        rule.check_region(["gate"])
    with pytest.raises(OptionError, match="give --roi gat=x,y,width,height"):
        rule.check_region([])
    rule.check_region(["gat"])


def test_rules_get_different_names() -> None:
    assert [rule.name for rule in parse_rules(["Car > 1%", "Car > 2%", "x: Car > 3%"])] == ["car", "car-2", "x"]
    with pytest.raises(OptionError, match="two rules of --events are named x"):
        parse_rules(["x: Car > 1%", "x: Car > 2%"])


@pytest.mark.parametrize(
    ("operator", "holding", "not_holding"), [(">", [3], [1, 2]), (">=", [2, 3], [1]), ("<", [1], [2]), ("<=", [2], [3])]
)
def test_operators(operator: str, holding: list[float], not_holding: list[float]) -> None:
    rule = parse_rule(f"Car {operator} 2%")
    assert all(rule.holds(value, active=False) for value in holding)
    assert not any(rule.holds(value, active=True) for value in not_holding)


@given(st.text(alphabet="Car+ >=<%px objects:for in gate until cooldown of 0123456789.sm\n\x00é", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        rule = parse_rule(text)
    except OptionError as error:
        message = str(error)
    else:
        assert rule.name
        assert rule.classes
    assert "\n" not in message
