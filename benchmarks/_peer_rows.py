"""One run of a clip by rtseg or by another tool, in this process. Used by ``peers.py``.

    python benchmarks/_peer_rows.py ROW CLIP OUTPUT MODEL.json

Every function of ``ROWS`` loads its model, runs it once on a black frame, and returns the function that is timed: it
opens the clip, draws the classes over every frame and closes the written video. The code of the other tools is what
their tutorials show. Only the two last rows import rtseg. The last line printed is JSON: seconds, CPU seconds and
peak memory.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ROWS", "Job"]

Image = NDArray[np.uint8]
Predict = Callable[[Image], NDArray[np.float32]]
"""float32 (1, 3, h, w), normalised RGB -> logits, float32 (1, classes, h, w)."""
Run = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """What to run."""

    clip: str
    output: str
    model: str
    """ONNX file: normalised RGB in, logits of the same size out, float32."""
    bundled: str
    """Name of the same model in rtseg."""
    size: tuple[int, int]
    """(H, W) of the input, in pixels."""
    palette: Image
    """uint8 (classes, 3), BGR."""
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    precision: str = "auto"
    """For rtseg."""
    propagate: str = "off"
    """For rtseg: ``off``, or the number of frames from one run of the network to the next."""

    @property
    def blank(self) -> Image:
        """A black frame of the size of the model."""
        return np.zeros((*self.size, 3), np.uint8)


def preprocess(job: Job, frame: Image) -> NDArray[np.float32]:
    """Resize, convert and normalise as tutorials do: BGR frame -> float32 (1, 3, h, w)."""
    height, width = job.size
    rgb = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
    pixels = (rgb.astype(np.float32) / 255.0 - job.mean) / job.std
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def draw(job: Job, frame: Image, logits: NDArray[np.float32]) -> Image:
    """Argmax, colours from the palette, nearest resize, blend."""
    labels = logits[0].argmax(axis=0)
    mask = cv2.resize(job.palette[labels], (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
    return cv2.addWeighted(frame, 0.5, mask, 0.5, 0)  # type: ignore[return-value]


def onnxruntime_session(job: Job) -> Predict:
    """ONNX Runtime with its defaults."""
    import onnxruntime as ort

    session = ort.InferenceSession(job.model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def openvino_model(job: Job) -> Predict:
    """OpenVINO with its defaults."""
    import openvino as ov

    compiled = ov.Core().compile_model(job.model, "CPU")
    return lambda pixels: compiled([pixels])[0]


def make_annotate(job: Job, predict: Predict) -> Callable[[Image], Image]:
    """Return the function from a frame to its overlay, warmed up."""

    def annotate(frame: Image) -> Image:
        return draw(job, frame, predict(preprocess(job, frame)))

    annotate(job.blank)
    return annotate


def open_writer(output: str, capture: cv2.VideoCapture) -> cv2.VideoWriter:
    """``cv2.VideoWriter`` of the size and rate of a capture. The wheels of OpenCV have no H.264 encoder."""
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return cv2.VideoWriter(output, cv2.VideoWriter.fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), size)


def opencv_loop(job: Job, annotate: Callable[[Image], Image]) -> Run:
    """The loop of every tutorial: read, annotate, write."""

    def run() -> None:
        capture = cv2.VideoCapture(job.clip)
        writer = open_writer(job.output, capture)
        while True:
            success, frame = capture.read()
            if not success:
                break
            writer.write(annotate(frame))  # type: ignore[arg-type]
        capture.release()
        writer.release()

    return run


def opencv_onnxruntime(job: Job) -> Run:
    """cv2.VideoCapture, ONNX Runtime, numpy palette, cv2.VideoWriter."""
    return opencv_loop(job, make_annotate(job, onnxruntime_session(job)))


def opencv_openvino(job: Job) -> Run:
    """The same with OpenVINO."""
    return opencv_loop(job, make_annotate(job, openvino_model(job)))


def supervision(job: Job) -> Run:
    """``supervision.process_video`` with OpenVINO in its callback; it is asked to keep the audio."""
    import supervision as sv

    annotate = make_annotate(job, openvino_model(job))

    def run() -> None:
        sv.process_video(job.clip, job.output, callback=lambda frame, index: annotate(frame), preserve_audio=True)

    return run


def vidgear(job: Job) -> Run:
    """CamGear and WriteGear (ffmpeg, H.264) around OpenVINO."""
    import imageio_ffmpeg
    from vidgear.gears import CamGear, WriteGear

    annotate = make_annotate(job, openvino_model(job))
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()

    def run() -> None:
        stream = CamGear(source=job.clip).start()
        writer = WriteGear(output=job.output, custom_ffmpeg=ffmpeg, **{"-input_framerate": stream.framerate})
        while True:
            frame = stream.read()
            if frame is None:
                break
            writer.write(annotate(frame))
        stream.stop()
        writer.close()

    return run


def openvino_async(job: Job) -> Run:
    """``openvino.AsyncInferQueue`` with the hint THROUGHPUT; its callback keeps the results, written in order."""
    import openvino as ov

    compiled = ov.Core().compile_model(job.model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = ov.AsyncInferQueue(compiled)
    results: dict[int, tuple[Image, NDArray[np.float32]]] = {}

    def keep(request: Any, given: tuple[int, Image]) -> None:
        index, frame = given
        results[index] = frame, request.get_output_tensor(0).data.copy()

    queue.set_callback(keep)
    queue.start_async({0: preprocess(job, job.blank)}, (-1, job.blank))
    queue.wait_all()

    def run() -> None:
        results.clear()
        capture = cv2.VideoCapture(job.clip)
        writer = open_writer(job.output, capture)
        read = written = 0
        while True:
            success, frame = capture.read()
            if success:
                queue.start_async({0: preprocess(job, frame)}, (read, frame))  # type: ignore[arg-type]
                read += 1
            else:
                queue.wait_all()
            while written in results:
                writer.write(draw(job, *results.pop(written)))
                written += 1
            if not success:
                break
        capture.release()
        writer.release()

    return run


def inference(job: Job) -> Run:
    """Roboflow's ``InferencePipeline`` with custom logic (OpenVINO); its sink draws and writes."""
    from inference import InferencePipeline

    predict = openvino_model(job)
    predict(preprocess(job, job.blank))

    def run() -> None:
        capture = cv2.VideoCapture(job.clip)
        writer = open_writer(job.output, capture)
        capture.release()

        def infer(frames: list[Any]) -> list[Any]:
            return [predict(preprocess(job, frame.image)) for frame in frames]

        def sink(logits: NDArray[np.float32], frame: Any) -> None:
            writer.write(draw(job, frame.image, logits))

        pipeline = InferencePipeline.init_with_custom_logic(
            video_reference=job.clip, on_video_frame=infer, on_prediction=sink
        )
        pipeline.start()
        pipeline.join()
        writer.release()

    return run


def tutorial(job: Job) -> Run:
    """cv2.VideoCapture, PIL, torchvision, eager torch in fp32, numpy palette, PIL blend, cv2.VideoWriter."""
    import torch
    from PIL import Image as PilImage
    from pipeline import unfold_batch_norm
    from torchvision import transforms

    from rtseg.model_file.load import load_model
    from rtseg.weights import find_model

    network = unfold_batch_norm(load_model(find_model(job.bundled)))
    transform = transforms.Compose(
        [
            transforms.Resize(job.size),
            transforms.ToTensor(),
            transforms.Normalize(job.mean.tolist(), job.std.tolist()),
        ]
    )
    rgb_palette = np.ascontiguousarray(job.palette[:, ::-1])

    def annotate(frame: Image) -> Image:
        image = PilImage.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        with torch.no_grad():
            logits = network(transform(image)[None])
            logits = torch.nn.functional.interpolate(logits, size=frame.shape[:2], mode="bilinear")
        mask = PilImage.fromarray(rgb_palette[logits.argmax(1)[0].numpy()])
        return cv2.cvtColor(np.asarray(PilImage.blend(image, mask, 0.5)), cv2.COLOR_RGB2BGR)  # type: ignore[return-value]

    annotate(job.blank)
    return opencv_loop(job, annotate)


def rtseg(job: Job) -> Run:
    """``rtseg stream CLIP -o OUTPUT`` with its defaults, or with ``--precision int8`` or ``--propagate K``."""
    from rtseg import PropagationOptions, StreamOptions, StreamRun

    options = StreamOptions(
        overwrite=True,  # the round before wrote the same file
        source=job.clip,
        model=job.bundled,
        size=job.size,
        precision=job.precision,
        output=(job.output,),
        show=False,
        propagation=PropagationOptions(job.propagate),
    )
    stream = StreamRun(options)
    stream.backend.infer(job.blank[None])
    stream.backend.reset()

    def run() -> None:
        stream.run()

    return run


PACKAGES = (
    "rtseg", "numpy", "opencv-python", "av", "openvino", "onnxruntime", "torch", "pillow", "supervision", "vidgear",
    "imageio-ffmpeg", "inference-cpu",
)  # fmt: skip
"""Distributions whose versions are recorded with a row that has imported them."""
MODULES = {"opencv-python": "cv2", "pillow": "PIL", "imageio-ffmpeg": "imageio_ffmpeg", "inference-cpu": "inference"}

ROWS: dict[str, Callable[[Job], Run]] = {
    "opencv-onnxruntime": opencv_onnxruntime,
    "opencv-openvino": opencv_openvino,
    "supervision": supervision,
    "vidgear": vidgear,
    "openvino-async": openvino_async,
    "inference": inference,
    "tutorial": tutorial,
    "rtseg": rtseg,
}
"""Name of a row -> its function. ``rtseg`` has variants: ``rtseg-propagate-K`` is ``--propagate K``, ``rtseg-int8`` is
``--precision int8``, and ``rtseg-int8-propagate-K`` both."""


def imported_versions() -> dict[str, str]:
    """Return the versions of the packages that this process has imported."""
    imported = [name for name in PACKAGES if MODULES.get(name, name) in sys.modules]
    return {name: version(name) for name in imported}


def cpu_seconds() -> float:
    """CPU seconds of this process, and of its children that have ended (ffmpeg)."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_memory() -> float:
    """Peak resident memory in MB: of this process, plus that of its largest child."""
    own = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert own is not None
    return (int(own[1]) + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024 / 1e6


def main() -> None:
    """Run one row and print its figures."""
    row, clip, output, facts_file = sys.argv[1:]
    facts = json.loads(Path(facts_file).read_text())
    name, _, propagate = row.partition("-propagate-")
    job = Job(
        clip=clip,
        output=output,
        model=facts["model"],
        bundled=facts["bundled"],
        size=tuple(facts["size"]),
        palette=np.array(facts["palette"], np.uint8),
        mean=np.array(facts["mean"], np.float32),
        std=np.array(facts["std"], np.float32),
        precision="int8" if name.endswith("-int8") else "auto",
        propagate=propagate or "off",
    )
    run = ROWS[name.removesuffix("-int8")](job)
    cpu, started = cpu_seconds(), time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    figures = {
        "seconds": seconds,
        "cpu_s": cpu_seconds() - cpu,
        "memory_mb": peak_memory(),
        "versions": imported_versions(),
    }
    print("\n" + json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
