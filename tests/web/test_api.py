"""What can be asked of the page, and told."""

from __future__ import annotations

import base64
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from helpers.pages import LEFT, RIGHT, SIZE, TIMEOUT_S, Viewer

from rtseg.app.options import StreamOptions
from rtseg.events.options import EventOptions
from rtseg.pipeline.options import PropagationOptions
from rtseg.web.server import PageServer


@pytest.fixture
def client(page: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=page, timeout=TIMEOUT_S) as opened:
        yield opened


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        assert time.monotonic() < deadline_s, "that did not happen in time"
        time.sleep(0.05)
    return value


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_status_and_details_tell_state_shares_and_stages(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/api/status").json()["sources"][0]["frames"])
    details = client.get("/api/sources/0").json()
    assert details["status"]["state"] == "playing"
    assert details["classes"][LEFT]["name"] == f"class {LEFT}"
    assert details["stages"]["infer"]["p95_ms"] > 0
    assert wait_until(lambda: client.get("/api/sources/0").json()["history"])[0]["shares"][RIGHT] == 0.5


def test_health_is_good_while_frames_come(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/healthz").status_code == 200)


def test_health_is_bad_before_the_first_frame_and_after_a_stall(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: client.get("/healthz").status_code == 200)
    monkeypatch.setattr("rtseg.web.source_run.SourceRun.frame_age_s", property(lambda self: 5.1))
    assert client.get("/healthz").status_code == 503
    monkeypatch.setattr("rtseg.web.source_run.SourceRun.frame_age_s", property(lambda self: None))
    assert client.get("/healthz").status_code == 503


def test_a_snapshot_is_drawn_as_asked_for(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/snapshot/0.jpg").status_code == 200)
    mask = decoded(client.get("/snapshot/0.jpg", params={"view": "mask", "hide": f"class {RIGHT}"}).content)
    assert mask.shape == (*SIZE, 3)
    assert np.abs(mask[30, 20].astype(int) - (7, 255 - LEFT, LEFT)).max() < 12  # the palette's colour, as BGR
    assert mask[30, 60].max() < 12


def test_classes_are_hidden_by_a_list_or_one_by_one(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/snapshot/0.jpg").status_code == 200)
    both: list[list[str]] = [[f"class {LEFT},class {RIGHT}"], [f"class {LEFT}", f"class {RIGHT}"]]
    for hide in both:
        mask = decoded(client.get("/snapshot/0.jpg", params={"view": "mask", "hide": hide}).content)
        assert mask.max() < 12


@pytest.mark.parametrize("query", ["view=nothing", "alpha=2", "alpha=x", "alpha=nan", "hide=unknown"])
def test_a_snapshot_with_a_wrong_option_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/snapshot/0.jpg?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_an_unknown_source_is_not_found(client: httpx.Client) -> None:
    for path in ("/api/sources/x", "/snapshot/x.jpg", "/stream/x.mjpg", "/api/predict?source=x"):
        method = "POST" if "predict" in path else "GET"
        assert client.request(method, path).status_code == 404


def test_mjpeg_sends_one_image_after_another(client: httpx.Client) -> None:
    with client.stream("GET", "/stream/0.mjpg") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=rtseg-frame"
        received = b""
        for chunk in answer.iter_bytes():
            received += chunk
            if received.count(b"--rtseg-frame") > 3:
                break
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.rpartition(b": ")[2])
    assert decoded(body[:length]).shape == (*SIZE, 3)


def test_one_image_is_labelled(client: httpx.Client) -> None:
    image = np.full((90, 120, 3), 30, np.uint8)
    image[:, 60:, 0] = 40
    answer = client.post("/api/predict", content=cv2.imencode(".png", image)[1].tobytes()).json()
    mask = cv2.imdecode(np.frombuffer(base64.b64decode(answer["mask_png"]), np.uint8), cv2.IMREAD_COLOR)
    assert answer["shares"]["class 30"] == answer["shares"]["class 40"] == 0.5
    assert mask[45, 20].tolist() == [7, 225, 30]
    assert decoded(base64.b64decode(answer["overlay_jpeg"])).shape == (90, 120, 3)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0 broken", b"\x89PNG\r\n\x1a\n" + 50 * b"\0"])
def test_what_is_no_image_is_refused(client: httpx.Client, data: bytes) -> None:
    assert client.post("/api/predict", content=data).status_code == 415


def test_an_image_of_too_many_pixels_is_refused(client: httpx.Client) -> None:
    image = cv2.imencode(".png", np.zeros((8000, 8000), np.uint8))[1].tobytes()
    assert client.post("/api/predict", content=image).status_code == 415


def test_an_upload_of_100_mb_is_refused_before_it_is_read(page: str, client: httpx.Client) -> None:
    connection = http.client.HTTPConnection(page.split("/")[2], timeout=TIMEOUT_S)
    connection.putrequest("POST", "/api/predict")
    connection.putheader("Content-Length", str(100_000_000))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1_000_000)

    try:
        assert client.post("/api/predict", content=endless()).status_code == 413
    except httpx.HTTPError:  # the server may end the connection while the rest is sent
        assert client.get("/api/status").status_code == 200


def test_recording_starts_and_stops_and_the_file_plays(start_page: Callable[..., PageServer], tmp_path: Path) -> None:
    server = start_page(recordings=tmp_path / "new")
    with httpx.Client(base_url=server.address, timeout=TIMEOUT_S) as client:
        wait_until(lambda: client.get("/api/status").json()["sources"][0]["frames"])
        name = client.post("/api/sources/0/recording", json={"on": True}).json()["recording"]
        assert client.post("/api/sources/0/recording", json={"on": True}).status_code == 409
        frames = client.get("/api/sources/0").json()["status"]["frames"]
        wait_until(lambda: client.get("/api/sources/0").json()["status"]["frames"] > frames + 10)
        client.post("/api/sources/0/recording", json={"on": False})
        assert wait_until(lambda: client.get("/api/sources/0").json()["recordings"]) == [name]
    with av.open(str(tmp_path / "new" / name)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 10


def test_recordings_are_listed_and_only_those_can_be_had(start_page: Callable[..., PageServer], tmp_path: Path) -> None:
    folder, name = tmp_path / "recordings", "gate-20261128-193000"
    folder.mkdir()
    for each in (f"{name}.mp4", f"{name}-2.mp4", f"{name}-3.part.mp4", "holiday.mp4", f"{name}.txt"):
        (folder / each).write_bytes(each.encode())
    secret = tmp_path / f"{name}.mp4"
    secret.write_bytes(b"secret")
    (folder / "link-20261128-193000.mp4").symlink_to(secret)
    with httpx.Client(base_url=start_page(recordings=folder).address, timeout=TIMEOUT_S) as client:
        listed = client.get("/api/recordings").json()["recordings"]
        assert {each["id"] for each in listed} == {name, f"{name}-2"}
        assert {each["source"] for each in listed} == {"gate"}
        answer = client.get(f"/api/recordings/{name}.mp4")
        assert answer.content == f"{name}.mp4".encode()
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}.mp4"'
        wrong = [
            "holiday",
            f"{name}-3.part",
            "link-20261128-193000",
            f"..%2f{name}",
            f"..%2frecordings%2f{name}",
            "%00",
        ]
        assert {client.get(f"/api/recordings/{each}.mp4").status_code for each in wrong} == {404}


def test_a_folder_of_recordings_that_is_not_there_lists_none(
    start_page: Callable[..., PageServer], tmp_path: Path
) -> None:
    address = start_page(recordings=tmp_path / "nothing").address
    assert httpx.get(f"{address}api/recordings", timeout=TIMEOUT_S).json() == {"recordings": []}


def test_a_folder_of_recordings_that_cannot_be_read_is_said(
    start_page: Callable[..., PageServer], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    answer = httpx.get(f"{start_page(recordings=tmp_path / 'file').address}api/recordings", timeout=TIMEOUT_S)
    assert answer.status_code == 409
    assert "the folder of recordings cannot be read: Not a directory" in answer.text


def test_the_class_at_a_place_is_named(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/api/status").json()["sources"][0]["frames"])
    names = [client.get("/api/sources/0/class", params={"x": x, "y": 1}).json()["name"] for x in (0, 0.49, 0.51, 1)]
    assert names == 2 * [f"class {LEFT}"] + 2 * [f"class {RIGHT}"]
    for place in ({}, {"x": "a", "y": 0}, {"x": 1.1, "y": 0}, {"x": "nan", "y": 0}):
        assert client.get("/api/sources/0/class", params=place).status_code == 400


def test_the_history_is_left_out_on_demand(client: httpx.Client) -> None:
    assert "history" not in client.get("/api/sources/0", params={"history": "false"}).json()


def test_propagation_is_changed_while_a_viewer_watches(
    start_page: Callable[..., PageServer], endless: StreamOptions
) -> None:
    server = start_page(replace(endless, propagation=PropagationOptions("off")))
    with Viewer(server.address, "0") as viewer:
        viewer.frame()
        url = f"{server.address}api/sources/0"
        answer = httpx.patch(url, json={"propagate": "3"}, timeout=TIMEOUT_S)
        assert answer.json()["propagate"] == "3"
        while not viewer.frame().is_key:
            pass
        assert viewer.frame().labels[0, 0] == LEFT
        stages = wait_until(lambda: httpx.get(url, timeout=TIMEOUT_S).json()["stages"].get("carry"))
        assert stages["max_ms"] >= 0


@pytest.mark.parametrize(
    "values",
    [{"propagate": "x"}, {"propagate": "-1"}, {"propagate": 3}, {"model": "/etc/passwd"}, {"model": ""}, {"other": 1}],
)
def test_a_wrong_change_is_refused_and_the_source_goes_on(client: httpx.Client, values: dict[str, object]) -> None:
    assert client.patch("/api/sources/0", json=values).status_code in (400, 409)
    wait_until(lambda: client.get("/healthz").status_code == 200)


@pytest.mark.parametrize("values", [{}, {"on": 1}, {"on": None}])
def test_a_wrong_wish_to_record_is_refused(client: httpx.Client, values: dict[str, object]) -> None:
    assert client.post("/api/sources/0/recording", json=values).status_code == 400


def test_the_description_names_every_endpoint(client: httpx.Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert set(paths) >= {"/healthz", "/api/status", "/api/sources/{id}", "/api/predict", "/snapshot/{id}.jpg"}
    assert set(paths["/api/sources/{id}"]) >= {"get", "patch"}


def test_connections_without_a_request_are_closed_and_bounded(
    page: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.web.connections._HEAD_S", 0.3)
    host, port = page.split("/")[2].split(":")
    opened = [socket.create_connection((host, int(port)), TIMEOUT_S) for _ in range(400)]
    try:
        opened[0].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")  # the head never ends
        for each in opened:
            each.settimeout(TIMEOUT_S)
            with suppress(ConnectionError):
                while each.recv(1000):  # ends when the server closes; a timeout fails the test
                    pass
    finally:
        for each in opened:
            each.close()
    assert client.get("/api/status").status_code == 200


def test_a_password_in_the_address_of_a_camera_never_reaches_a_viewer(
    start_page: Callable[..., PageServer], endless: StreamOptions
) -> None:
    server = start_page(replace(endless, source="rtsp://user:geheim%40wort@127.0.0.1:9/live"))
    with httpx.Client(base_url=server.address, timeout=TIMEOUT_S) as client:
        wait_until(lambda: "reconnecting" in client.get("/api/status").json()["sources"][0]["state"])
        answers = client.get("/api/status").text + client.get("/api/sources/0").text
    with Viewer(server.address, "0") as viewer:
        answers += str(viewer.text("hello")) + str(viewer.text("status"))
    assert "geheim" not in answers
    assert "user" not in answers


def test_regions_limit_what_is_labelled_and_survive_a_change(start_page: Callable[..., PageServer]) -> None:
    server = start_page()
    url = f"{server.address}api/sources/0"
    points = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.5]]
    with Viewer(server.address, "0") as viewer:
        viewer.frame()
        answer = httpx.put(f"{url}/regions", json={"regions": [{"points": points}]}, timeout=TIMEOUT_S)
        assert answer.json()["regions"] == [{"name": "", "points": points}]
        while viewer.frame().labels[45, 20] != 255:
            pass
        assert viewer.frame().labels[15, 20] == LEFT
        httpx.patch(url, json={"propagate": "2"}, timeout=TIMEOUT_S)
        assert httpx.get(url, timeout=TIMEOUT_S).json()["regions"] == [{"name": "", "points": points}]


@pytest.mark.parametrize(
    "regions",
    [
        None,
        3,
        [3],
        [{}],
        [{"points": 3}],
        [{"points": [[0, 0], [1, 1]]}],
        [{"points": [[0, 0], [2, 0], [1, 1]]}],
        [{"points": [[0, 0], ["a", 0], [1, 1]]}],
        [{"points": [[0, 0], [1, 0], [1, 1]], "name": 3}],
    ],
)
def test_a_region_that_is_none_is_refused(client: httpx.Client, regions: object) -> None:
    answer = client.put("/api/sources/0/regions", json={"regions": regions})
    assert answer.status_code == 409
    assert answer.json()["error"]


def test_blurred_classes_are_blurred_for_viewers_in_snapshots_and_in_recordings(
    start_page: Callable[..., PageServer], endless: StreamOptions, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    image = np.full((*SIZE, 3), (LEFT, 90, 160), np.uint8)
    image[20:40, 20:40] = np.kron(np.indices((10, 10)).sum(0) % 2 * 255, np.ones((2, 2)))[..., None]  # a chessboard
    image[20:40, 20:40, 0] = RIGHT
    for number in range(25):
        cv2.imwrite(str(folder / f"{number:02}.png"), image)
    server = start_page(replace(endless, source=str(folder), blur=(f"class {RIGHT}",)), recordings=tmp_path / "new")
    with httpx.Client(base_url=server.address, timeout=TIMEOUT_S) as client:
        wait_until(lambda: client.get("/snapshot/0.jpg").status_code == 200)
        seen = decoded(client.get("/snapshot/0.jpg", params={"view": "image"}).content)
    assert image[20:40, 20:40, 2].std() > 100
    assert seen[20:40, 20:40, 2].std() < 40
    newest = next(iter(server.sources)).sink.newest
    assert newest is not None
    assert newest[0].image[20:40, 20:40, 2].std() < 40  # what is encoded for viewers


def test_events_are_listed_with_their_images_and_counted_in_the_metrics(
    start_page: Callable[..., PageServer], endless: StreamOptions
) -> None:
    rule = f"class {LEFT} > 10%"
    run = replace(endless, events=EventOptions(rules=(rule,)))
    with httpx.Client(base_url=start_page(run).address, timeout=TIMEOUT_S) as client:
        event = wait_until(lambda: client.get("/api/sources/0").json()["events"])[0]
        image = client.get("/api/sources/0/events/0.jpg").content
        text = client.get("/metrics").text
        assert client.get("/api/sources/0/events/7.jpg").status_code == 404
        assert client.get("/api/sources/0/events/x.jpg").status_code == 404
    assert (event["kind"], event["value"], event["snapshot"]) == ("start", 50.0, True)
    assert decoded(image).shape == (*SIZE, 3)
    assert 'rtseg_frames_total{source="0",what="written"}' in text
    assert "rtseg_events_total{event=" in text
