"""The rule of an event, and how it is written. Importing this loads no library.

    [NAME:] CLASS[+CLASS...] OPERATOR NUMBER UNIT [for TIME] [in REGION] [until NUMBER] [cooldown TIME] [of SIZE]

    Pedestrian > 2% for 1s in gate
    vehicles: Car + Bicyclist >= 3 objects of 200px for 500ms cooldown 10s

Units: ``%`` of the labelled pixels of the region or the frame, ``px`` (pixels), ``objects`` (connected areas).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from rtseg.errors import OptionError

__all__ = ["Rule", "parse_rule", "parse_rules", "suggest"]

_HEAD = re.compile(
    r"(?:(?P<name>[\w-]{1,40})\s*:)?\s*(?P<classes>[^<>=:]{1,400}?)\s*(?P<operator>>=|<=|>|<)\s*"
    r"(?P<number>\d{1,9}(?:\.\d{1,6})?)\s*(?P<unit>%|px|pixels?|objects?)(?P<clauses>(?:\s.*)?)"
)
_TIME = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m|min|h)")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_UNITS = {"%": "%", "p": "px", "o": "objects"}
_CLAUSES = ("for", "in", "until", "cooldown", "of")
_FORM = "CLASS > NUMBER% [for TIME] [in REGION] [until NUMBER] [cooldown TIME], e.g. Pedestrian > 2% for 1s in gate"
_QUIET_S: Final = 0.5
_MOST_RULES: Final = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """When an event begins and ends.

    It begins when the condition has held for ``for_s``, in the time of the source, and ends when it has not held for as
    long, at least 0.5 s.
    """

    name: str
    """Unique among the rules of a run."""
    text: str
    """As the user wrote it."""
    classes: tuple[str, ...]
    """Names of classes, which are counted together."""
    operator: str
    """One of ``>``, ``>=``, ``<``, ``<=``."""
    threshold: float
    unit: str
    """``%`` (percent of the labelled pixels, 0..100), ``px`` or ``objects``."""
    for_s: float = 0.0
    region: str = ""
    """Name of a region; empty for the whole frame."""
    until: float | None = None
    """Threshold for the end; the same as for the beginning if None."""
    cooldown_s: float = 0.0
    """Shortest time from the end of an event to the beginning of the next one."""
    smallest_px: int | None = None
    """Pixels that an object must have. None: 0.05 % of the frame."""

    @property
    def quiet_s(self) -> float:
        """How long the condition must not hold before the event ends, in seconds."""
        return max(self.for_s, _QUIET_S)

    def holds(self, value: float, *, active: bool) -> bool:
        """Whether the condition holds for a value; while an event is ``active``, by the threshold for its end."""
        threshold = self.until if active and self.until is not None else self.threshold
        if self.operator.startswith(">"):
            return value > threshold or (value == threshold and self.operator == ">=")
        return value < threshold or (value == threshold and self.operator == "<=")

    def class_ids(self, model: str, classes: Sequence[str]) -> tuple[int, ...]:
        """The IDs of the classes in a model. Upper and lower case do not matter.

        Raises:
            OptionError: the model has no such class; the text suggests one.
        """
        lowered = [known.lower() for known in classes]
        for name in self.classes:
            if name.lower() not in lowered:
                raise OptionError(f"--events {self.text!r}: {model} has no class {name!r}: {suggest(name, classes)}")
        return tuple(lowered.index(name.lower()) for name in self.classes)

    def check_region(self, regions: Sequence[str]) -> None:
        """Check that there is the region that the rule names.

        Raises:
            OptionError: there is none of this name.
        """
        if self.region and self.region not in regions:
            hint = suggest(self.region, regions) if regions else f"give --roi {self.region}=x,y,width,height"
            raise OptionError(f"--events {self.text!r}: there is no region {self.region!r}: {hint}")


def parse_rule(text: str) -> Rule:
    """Read the text of a rule.

    Raises:
        OptionError: it is not of the form above; the text says where.
    """
    plain = " ".join(text.split())
    match = _HEAD.fullmatch(plain)
    if match is None:
        raise OptionError(f"--events {text!r} must be {_FORM}; units are %, px and objects")
    classes = tuple(name.strip() for name in match["classes"].split("+"))
    if not all(classes):
        raise OptionError(f"--events {text!r}: write a class name on each side of +")
    clauses = _clauses(match["clauses"].split(), text)
    threshold, unit = float(match["number"]), _UNITS[match["unit"][0]]
    rule = Rule(
        name=match["name"] or _slug("-".join((*classes, *([f"in-{clauses['in']}"] if "in" in clauses else [])))),
        text=plain,
        classes=classes,
        operator=match["operator"],
        threshold=threshold,
        unit=unit,
        for_s=_time(clauses.get("for", "0s"), "for", text),
        region=clauses.get("in", ""),
        until=_number(clauses["until"], text) if "until" in clauses else None,
        cooldown_s=_time(clauses.get("cooldown", "0s"), "cooldown", text),
        smallest_px=int(_number(clauses["of"].removesuffix("px"), text)) if "of" in clauses else None,
    )
    _check(rule)
    return rule


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Read several rules. Those without a name get different ones.

    Raises:
        OptionError: a text is not a rule, two have the same name, or there are more than 64.
    """
    rules: dict[str, Rule] = {}
    for text in texts:
        rule = parse_rule(text)
        name, number = rule.name, 2
        if name in rules and re.match(rf"\s*{re.escape(name)}\s*:", text):
            raise OptionError(f"two rules of --events are named {name}: give each a name of its own")
        while name in rules:
            name, number = f"{rule.name}-{number}", number + 1
        rules[name] = replace(rule, name=name)
    if len(rules) > _MOST_RULES:
        raise OptionError(f"--events can be given {_MOST_RULES} times, got {len(rules)}")
    return tuple(rules.values())


def suggest(name: str, known: Sequence[str]) -> str:
    """What to write instead of an unknown name."""
    lowered = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), lowered, 1)
    return f"did you mean {lowered[near[0]]}?" if near else f"known are {', '.join(known)}"


def _clauses(words: list[str], text: str) -> dict[str, str]:
    """The clauses after the condition: pairs of a word and its value."""
    found: dict[str, str] = {}
    for place in range(0, len(words), 2):
        clause = words[place]
        if clause not in _CLAUSES:
            raise OptionError(f"--events {text!r}: {clause!r} is not known here: {suggest(clause, _CLAUSES)}")
        if clause in found:
            raise OptionError(f"--events {text!r}: {clause} is given twice: leave one out")
        if place + 1 == len(words):
            raise OptionError(f"--events {text!r}: a value is missing after {clause}")
        found[clause] = words[place + 1]
    return found


def _time(word: str, clause: str, text: str) -> float:
    match = _TIME.fullmatch(word)
    if match is None:
        raise OptionError(f"--events {text!r}: {clause} takes a time such as 500ms, 2s or 1min, got {word!r}")
    return float(match[1]) * _SECONDS[match[2]]


def _number(word: str, text: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(?:%|px)?", word)
    if match is None:
        raise OptionError(f"--events {text!r}: {word!r} is not a number")
    return float(match[1])


def _check(rule: Rule) -> None:
    thresholds = (rule.threshold, rule.threshold if rule.until is None else rule.until)
    if rule.unit == "%" and max(thresholds) > 100:
        raise OptionError(f"--events {rule.text!r}: a share is at most 100%")
    if rule.unit != "%" and any(value != int(value) for value in thresholds):
        raise OptionError(f"--events {rule.text!r}: a number of {rule.unit} must be a whole number")
    if rule.smallest_px is not None and rule.unit != "objects":
        raise OptionError(
            f"--events {rule.text!r}: `of` is the smallest size of objects: count objects, or leave it out"
        )
    begin, end = thresholds
    if (rule.operator.startswith(">") and end > begin) or (rule.operator.startswith("<") and end < begin):
        raise OptionError(f"--events {rule.text!r}: `until` must be on the other side of the threshold {begin:g}")
    if rule.operator == "<" and rule.threshold == 0:
        raise OptionError(f"--events {rule.text!r}: nothing is less than 0: write <= 0")
    if rule.operator == ">" and rule.threshold == 100 and rule.unit == "%":
        raise OptionError(f"--events {rule.text!r}: no share is more than 100%: write >= 100%")


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-_")[:40] or "rule"
