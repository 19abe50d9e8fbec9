from __future__ import annotations

import pytest

from rtseg.app.options import StreamOptions
from rtseg.app.output_names import name_outputs
from rtseg.errors import OptionError
from rtseg.events.options import EventOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"roi": ("1,2,3",)}, "--roi '1,2,3' must be x,y,width,height"),
        ({"rules": ("Car",)}, "--events 'Car' must be CLASS > NUMBER%"),
        ({"destinations": ("ftp://user:SECRET@host/x",)}, "unknown scheme, give a file, https://, mqtt:// or mqtts://"),
        ({"destinations": ("events.txt",)}, "must be FILE.jsonl, https://HOST or mqtt://HOST"),
        ({"destinations": ("a.jsonl", "a.jsonl")}, "a.jsonl is given twice"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_opened(fields: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        EventOptions(**fields)  # type: ignore[arg-type]
    assert "SECRET" not in str(caught.value)


def test_each_of_several_sources_has_a_file_of_its_own_and_they_share_a_webhook() -> None:
    events = EventOptions(destinations=("ev-{name}.jsonl", "https://host/hook", "mqtt://host/{name}"))
    named = name_outputs("gate", StreamOptions(events=events)).events.destinations
    assert named == ("ev-gate.jsonl", "https://host/hook", "mqtt://host/gate")
    with pytest.raises(OptionError, match=r"--events-to ev.jsonl would be written by every source: .*ev-{name}.jsonl"):
        name_outputs("gate", StreamOptions(events=EventOptions(destinations=("ev.jsonl",))))
