"""Record only while a class covers enough of the image: one video for each event.

python examples/record_event.py camera:0 events --class Pedestrian --percent 2
"""

import argparse
import sys
from pathlib import Path

from rtseg import Frame, Overlay, Pipeline, Sink, VideoSink, open_backend, open_source
from rtseg.errors import RtsegError


class EventRecorder(Sink):
    """Records from the first frame in which a class covers ``share`` of the image until ``tail_s`` after the last."""

    kind = "events"

    def __init__(self, folder: Path, class_id: int, share: float, tail_s: float = 2.0) -> None:
        self.name = f"events in {folder}"
        self._folder, self._class_id, self._share, self._tail_s = folder, class_id, share, tail_s
        self._video: VideoSink | None = None
        self._until_s = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, frame: Frame, labels, rendered) -> None:
        """Record the frame if an event is going on."""
        if (labels == self._class_id).mean() >= self._share:
            self._until_s = frame.pts_s + self._tail_s
            self._video = self._video or VideoSink(self._folder / f"event-{frame.pts_s:09.2f}s.mp4")
        elif frame.pts_s > self._until_s:
            self.close()
        if self._video is not None:
            self._video.write(frame, labels, rendered)
            self.written += 1

    def close(self) -> None:
        """Finish the recording of the event, if there is one."""
        if self._video is not None:
            self._video.close()
            self._video = None


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--class", dest="class_name", default="Pedestrian")
    parser.add_argument("--percent", type=float, default=2.0)
    arguments = parser.parse_args()
    with open_backend("auto", "icnet-camvid", hint="latency") as backend:
        class_id = backend.spec.class_id(arguments.class_name)
        sink = EventRecorder(arguments.folder, class_id, arguments.percent / 100)
        with Pipeline(open_source(arguments.source), backend, [sink], Overlay(backend.spec)) as pipeline:
            print(pipeline.run())
    sink.close()
    print(f"{sink.written} frames in {arguments.folder}")


if __name__ == "__main__":
    try:
        main()
    except RtsegError as error:
        sys.exit(f"error: {error}")
