"""Measure a set of images on each storage, with each decoder and number of workers, and in the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.bench.environment import spread
from rtseg.bench.interleave import ProgressCallback, ignore_progress, run_interleaved, sigterm_as_interrupt
from rtseg.bench.stage_costs import Run, cpu_costs, limit_facts, make_prepare, row_facts, run_pipeline, warm_up
from rtseg.bench.storage.image_sets import DrawnOptions, ImageSet, copy_images, draw_images, use_images
from rtseg.bench.storage.memory import measure_read_memory
from rtseg.bench.storage.passes import AUTO, CACHE_TOLERANCE, Pass, Setup, check_no_damage, unsupported_reason
from rtseg.bench.storage.ratios import ratios, shares_of_best
from rtseg.bench.storage.simulated_disk import DiskModel, SimulatedDisk
from rtseg.bench.storage.targets import TargetFolder, check_kind, measure_kind
from rtseg.errors import OptionError
from rtseg.image_io.decoders import open_decoder
from rtseg.image_io.options import DECODERS, ReadOptions
from rtseg.image_io.storage_kind import Storage, find_storage
from rtseg.preprocess import Prepare, override_steps, preprocess_facts
from rtseg.weights import DEFAULT_MODEL

__all__ = ["STATES", "StorageOptions", "measure_storage"]

STATES = ("cold", "warm")
_MAX_WORKERS = 256


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Options of ``rtseg bench --storage``.

    Raises:
        OptionError: a value is out of range, or a decoder is unknown.
        MissingExtra: a decoder is not installed.
    """

    targets: tuple[TargetFolder, ...]
    data: Path | None = None
    """A folder with images. Default: images are drawn."""
    drawn: DrawnOptions = field(default_factory=DrawnOptions)
    decoders: tuple[str, ...] = ()
    """Default: all. One that is not installed then gets a row that says so."""
    workers: tuple[int, ...] = (0, 1, 2, 4, 8)
    rounds: int = 3
    prefetch_mb: int = 256
    cache: Path | None = None
    """Where the folder of ``--ssd-cache`` is created. Default: in the folder for temporary files."""
    network: bool = True
    """Whether to measure the whole pipeline as well."""
    model: str = DEFAULT_MODEL
    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    model_size: tuple[int, int] | None = None
    preprocess: tuple[str, ...] | None = None
    """Preprocessing steps instead of those of the model file; see ``rtseg.preprocess``."""

    def __post_init__(self) -> None:
        if not self.targets:
            raise OptionError("--storage is missing: give ssd, hdd or auto, or e.g. ssd=/mnt/nvme")
        if self.data is not None and not self.data.is_dir():
            raise OptionError(f"--data {self.data} is not a folder: give a folder with images")
        if self.cache is not None and not self.cache.is_dir():
            raise OptionError(f"--ssd-cache {self.cache} is not a folder: create it or give another")
        if self.rounds < 1:
            raise OptionError(f"--rounds must be at least 1, got {self.rounds}")
        if not self.workers or not all(0 <= workers <= _MAX_WORKERS for workers in self.workers):
            raise OptionError(f"--workers must be in 0 .. {_MAX_WORKERS}, got {','.join(map(str, self.workers))}")
        for decoder in self.decoders:
            open_decoder(ReadOptions(decoder=decoder).decoder)

    @property
    def worker_counts(self) -> list[int | str]:
        """The numbers of workers, and ``AUTO``."""
        return [*self.workers, AUTO]


@dataclass(frozen=True, slots=True)
class StorageTarget:
    """A storage to measure, with the set of images on it."""

    folder: TargetFolder
    storage: Storage
    setup: Setup

    def facts(self) -> dict[str, Any]:
        """Return the entries that every row of this storage has."""
        return {"storage": self.folder.label, "simulated": self.folder.simulated}

    @property
    def known_by(self) -> str:
        """How the kind of the storage is known."""
        if self.folder.simulated:
            return f"simulated; the files are on {self.storage.kind}, {self.storage.why}"
        return self.storage.why


def measure_storage(options: StorageOptions, on_progress: ProgressCallback = ignore_progress) -> dict[str, Any]:
    """Measure everything in turn and return the sections of a result. Files written for it are removed afterwards.

    Raises:
        OptionError: a storage is of another kind than stated.
        RtsegError: the images, the model or the backend cannot be used.
    """
    with sigterm_as_interrupt(), ExitStack() as opened:
        _check_folders(options)
        on_progress(0, 1, "writing images")
        targets = _prepare_targets(options, opened)
        memory = measure_read_memory(targets[0].setup.images.folder, ReadOptions(prefetch_mb=options.prefetch_mb))
        cache_folder = partial(TemporaryDirectory, prefix="rtseg-cache-", dir=options.cache)
        caches = {
            target.folder.label: Path(opened.enter_context(cache_folder()))
            for target in targets
            if target.folder.kind == "hdd" or target.storage.kind in ("hdd", "network")
        }
        backend = opened.enter_context(_open_backend(options)) if options.network else None
        prepare = make_prepare(backend, options.preprocess) if backend is not None else None
        runs, skipped = _runs(options, targets, caches, backend, prepare)
        results, complete = run_interleaved(runs, options.rounds, on_progress)
        sections = _sections(options, targets, results, skipped, backend)
    return {
        **sections,
        "memory": memory.facts(),
        "images": targets[0].setup.images.facts,
        "disk_model": DiskModel().facts() if any(folder.simulated for folder in options.targets) else None,
        "complete": complete,
    }


def _check_folders(options: StorageOptions) -> None:
    """Check the kind of each storage, as far as the kernel knows it, before anything is written."""
    for target in options.targets:
        folder = target.folder or options.data or Path(gettempdir())
        check_kind(target, folder, find_storage(folder))


def _prepare_targets(options: StorageOptions, opened: ExitStack) -> list[StorageTarget]:
    """Write the images to each storage. Targets without a folder share one set."""
    sets: dict[Path | None, ImageSet] = {}
    targets = []
    for target in options.targets:
        if target.folder not in sets:
            sets[target.folder] = _provide_images(target, options, opened)
        images = sets[target.folder]
        storage = measure_kind(images.folder, images.paths)
        check_kind(target, images.folder, storage)
        disk = SimulatedDisk(DiskModel()) if target.simulated else None
        profile = "hdd" if target.simulated else "auto"
        targets.append(StorageTarget(target, storage, Setup(images, profile, disk, options.prefetch_mb)))
    return targets


def _provide_images(target: TargetFolder, options: StorageOptions, opened: ExitStack) -> ImageSet:
    if options.data is None:
        return opened.enter_context(draw_images(options.drawn, target.folder))
    if target.folder is None:
        return use_images(options.data)
    return opened.enter_context(copy_images(options.data, target.folder))


@contextmanager
def _open_backend(options: StorageOptions) -> Iterator[Backend]:
    with open_backend(
        options.backend,
        options.model,
        size=options.model_size,
        precision=options.precision,
        device=options.device,
    ) as backend:
        warm_up(backend)
        yield backend


_Key = tuple[str, str, str, int | str, str]
"""What is measured (``read``, ``cache``, ``stream``, ``cost``), storage, decoder, workers (or cache pass), state."""
_Runs = dict[_Key, Callable[[], Any]]


def _runs(
    options: StorageOptions,
    targets: list[StorageTarget],
    caches: dict[str, Path],
    backend: Backend | None,
    prepare: Prepare | None,
) -> tuple[_Runs, dict[tuple[str, str], str]]:
    """Return all runs, and for each skipped (storage, decoder) the reason."""
    runs: _Runs = {}
    skipped: dict[tuple[str, str], str] = {}
    for target in targets:
        label = target.folder.label
        for decoder in options.decoders or DECODERS:
            reason = unsupported_reason(decoder, target.setup.images)
            if reason is not None:
                skipped[label, decoder] = reason
                continue
            for workers in options.worker_counts:
                for state in STATES:
                    read = partial(target.setup.read, decoder, workers, cold=state == "cold")
                    runs["read", label, decoder, workers, state] = read
    for target in targets:
        label = target.folder.label
        if label in caches:
            for number in ("first", "second"):
                run = partial(_read_through_cache, target.setup, caches[label], empty=number == "first")
                runs["cache", label, "cv2", number, "cold"] = run
        if backend is not None:
            for state in STATES:
                runs["stream", label, "cv2", AUTO, state] = partial(_stream, target.setup, backend, prepare, state)
            if backend.device.startswith("CPU"):  # on a GPU, CPU time is not the limit
                runs["cost", label, "cv2", AUTO, "warm"] = partial(_measure_costs, target.setup, backend, prepare)
    return runs, skipped


def _read_through_cache(setup: Setup, cache: Path, *, empty: bool) -> Pass:
    if empty:
        for path in cache.rglob("*"):
            if path.is_file():
                path.unlink()
    return setup.read_through(cache)


def _stream(setup: Setup, backend: Backend, prepare: Prepare | None, state: str) -> tuple[Run, float]:
    in_memory = setup.drop_from_memory() if state == "cold" else setup.load_into_memory()
    source = setup.source("cv2")
    run = run_pipeline(source, backend, prepare)
    check_no_damage(source)
    return run, in_memory


def _measure_costs(setup: Setup, backend: Backend, prepare: Prepare | None) -> dict[str, float]:
    setup.load_into_memory()
    return cpu_costs(lambda: setup.source("cv2"), backend, prepare)


def _sections(
    options: StorageOptions,
    targets: list[StorageTarget],
    results: dict[_Key, list[Any]],
    skipped: dict[tuple[str, str], str],
    backend: Backend | None,
) -> dict[str, Any]:
    storages = [
        {
            **target.facts(),
            "kind": "hdd" if target.folder.simulated else target.storage.kind,
            "asked_for": target.folder.kind,
            "known_by": target.known_by,
            "folder": str(target.setup.images.folder),
        }
        for target in targets
    ]
    reading, cache, pipeline = [], [], []
    for target in targets:
        label = target.folder.label
        for decoder in options.decoders or DECODERS:
            if (label, decoder) in skipped:
                reading.append(_reading_row(target, decoder, None, {}, skipped[label, decoder]))
                continue
            for workers in options.worker_counts:
                states = {state: results.get(("read", label, decoder, workers, state)) for state in STATES}
                if any(states.values()):
                    reading.append(_reading_row(target, decoder, workers, states, None))
        passes = {number: results.get(("cache", label, "cv2", number, "cold")) for number in ("first", "second")}
        if all(passes.values()):
            cache.append(target.facts() | {number: _summarize(each, "cold") for number, each in passes.items()})
        for state in STATES:
            streams = results.get(("stream", label, "cv2", AUTO, state))
            if streams and backend is not None:
                # There are none for cold rows, because there the storage may be the limit.
                costs = results.get(("cost", label, "cv2", AUTO, state), [])
                limit = limit_facts([run for run, _ in streams], costs)
                pipeline.append(_pipeline_row(target, state, streams, options, backend) | limit)
    return {
        "storages": storages,
        "reading": reading,
        "cache": cache,
        "pipeline": pipeline,
        "automatic": shares_of_best(reading),
        "ratios": ratios(reading, cache, pipeline),
    }


def _reading_row(
    target: StorageTarget, decoder: str, workers: int | str | None, states: dict[str, Any], skipped: str | None
) -> dict[str, Any]:
    row = target.facts() | {"decoder": decoder, "workers": workers, "skipped": skipped}
    return row | {state: _summarize(states.get(state), state) for state in STATES}


def _summarize(passes: list[Pass] | None, state: str) -> dict[str, Any] | None:
    if not passes:
        return None
    return {
        "images_per_s": spread([each.images_per_s for each in passes]),
        "mb_per_s": spread([each.mb_per_s for each in passes]),
        **_cache_facts([each.in_memory for each in passes], state),
    }


def _cache_facts(in_memory: list[float], state: str) -> dict[str, Any]:
    """How much of the set was in memory in the worst round, and whether the runs were really cold, or warm."""
    worst = max(in_memory) if state == "cold" else min(in_memory)
    good = worst <= CACHE_TOLERANCE if state == "cold" else worst >= 1 - CACHE_TOLERANCE
    return {"in_memory": worst, "as_said": good}


def _pipeline_row(
    target: StorageTarget, state: str, streams: list[tuple[Run, float]], options: StorageOptions, backend: Backend
) -> dict[str, Any]:
    return {
        **target.facts(),
        "source": target.folder.label,
        "state": state,
        "decoder": "cv2",
        **_cache_facts([in_memory for _, in_memory in streams], state),
        "asked_for": options.backend,
        **backend.facts(),
        **preprocess_facts(backend.spec, override_steps(backend.spec, options.preprocess)),
        **row_facts([run for run, _ in streams]),
    }
