"""Requests made from the description of the API: none may end in an error of the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rtseg.web.server import PageServer

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")


@pytest.mark.slow
def test_no_request_ends_in_an_error_of_the_server(start_page: Callable[..., PageServer], tmp_path: Path) -> None:
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error

    address = start_page(recordings=tmp_path).address.rstrip("/")
    schema = schemathesis.openapi.from_url(f"{address}/api/openapi.json").exclude(path_regex="mjpg|healthz")
    tried = 0
    for operation in schema.get_all_operations():
        case_strategy = operation.ok().as_strategy()

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=case_strategy)
        def ask(case: object) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(base_url=address, checks=[not_a_server_error], timeout=20)  # type: ignore[attr-defined]

        ask()
    assert tried > 100
