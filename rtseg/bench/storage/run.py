"""A set of images on each storage, by each decoder and number of workers, and through the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.bench import interleave as _turns
from rtseg.bench.environment import spread
from rtseg.bench.stage_costs import Run, cpu_costs, limit_facts, prepared, row_facts, run_pipeline, warm_up
from rtseg.bench.storage.image_sets import DrawnOptions, ImageSet, copied, drawn, taken
from rtseg.bench.storage.memory import memory_of_reading
from rtseg.bench.storage.passes import AUTO, MEASURED_FROM, Pass, Setup, refuse_damaged, why_not
from rtseg.bench.storage.ratios import ratios, shares_of_best
from rtseg.bench.storage.simulated_disk import DiskModel, SimulatedDisk
from rtseg.bench.storage.targets import Place, check_kind, measured
from rtseg.errors import OptionError
from rtseg.image_io.decoders import open_decoder
from rtseg.image_io.options import DECODERS, ReadOptions
from rtseg.image_io.storage_kind import Storage, find_storage
from rtseg.preprocess import Prepare, override_steps, preprocess_facts
from rtseg.weights import DEFAULT_MODEL

__all__ = ["STATES", "StorageOptions", "measure_storage"]

STATES = ("cold", "warm")
_MOST_WORKERS = 256


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What is read, how, and what labels it.

    Raises:
        OptionError: a value is out of range, or a decoder is not known.
        MissingExtra: a decoder that is asked for is not installed.
    """

    places: tuple[Place, ...]
    data: Path | None = None
    """A folder of images; drawn ones unless given."""
    drawn: DrawnOptions = field(default_factory=DrawnOptions)
    decoders: tuple[str, ...] = ()
    """All that there are unless given; of those, what is not installed is a row that says so."""
    workers: tuple[int, ...] = (0, 1, 2, 4, 8)
    rounds: int = 3
    prefetch_mb: int = 256
    cache: Path | None = None
    """Where the folder of ``--ssd-cache`` is made; that for temporary files unless given."""
    network: bool = True
    """Whether the images go through the whole pipeline, too."""
    model: str = DEFAULT_MODEL
    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    model_size: tuple[int, int] | None = None
    preprocess: tuple[str, ...] | None = None
    """Steps in place of those that the model file names; see ``rtseg.preprocess``."""

    def __post_init__(self) -> None:
        if not self.places:
            raise OptionError("no --storage is given: give ssd, hdd or auto, or e.g. ssd=/mnt/nvme")
        if self.data is not None and not self.data.is_dir():
            raise OptionError(f"--data {self.data} is no folder: give one with images in it")
        if self.cache is not None and not self.cache.is_dir():
            raise OptionError(f"--cache-folder {self.cache} is no folder: make it or give another")
        if self.rounds < 1:
            raise OptionError(f"--rounds must be at least 1, got {self.rounds}")
        if not self.workers or not all(0 <= workers <= _MOST_WORKERS for workers in self.workers):
            raise OptionError(f"--workers must be within 0 .. {_MOST_WORKERS}, got {','.join(map(str, self.workers))}")
        for decoder in self.decoders:
            open_decoder(ReadOptions(decoder=decoder).decoder)

    @property
    def tried(self) -> list[int | str]:
        """Every number of workers, and the automatic profile."""
        return [*self.workers, AUTO]


@dataclass(frozen=True, slots=True)
class _Stand:
    """A storage with the set on it."""

    place: Place
    storage: Storage
    setup: Setup

    def facts(self) -> dict[str, Any]:
        """What every row says of it."""
        return {"storage": self.place.label, "simulated": self.place.simulated}

    @property
    def known_by(self) -> str:
        """Why it is taken for what it is."""
        if self.place.simulated:
            return f"simulated; the files lie on {self.storage.kind}, {self.storage.why}"
        return self.storage.why


def measure_storage(options: StorageOptions, tell: _turns.Tell = lambda done, total, what: None) -> dict[str, Any]:
    """Measure everything in turn; returns ``sections`` of a result. Files that were written are removed at the end.

    Raises:
        OptionError: a storage is of another kind than it is said to be.
        RtsegError: the images, the model or the backend cannot be used.
    """
    with _turns.terminable(), ExitStack() as opened:
        _check_places(options)
        tell(0, 1, "writing images")
        stands = _stands(options, opened)
        memory = memory_of_reading(stands[0].setup.images.folder, ReadOptions(prefetch_mb=options.prefetch_mb))
        caches = {
            stand.place.label: Path(opened.enter_context(TemporaryDirectory(prefix="rtseg-cache-", dir=options.cache)))
            for stand in stands
            if stand.place.kind == "hdd" or stand.storage.kind in ("hdd", "network")
        }
        backend = opened.enter_context(_opened_backend(options)) if options.network else None
        prepare = prepared(backend, options.preprocess) if backend is not None else None
        runs, skipped = _runs(options, stands, caches, backend, prepare)
        results, complete = _turns.in_turn(runs, options.rounds, tell)
        sections = _sections(options, stands, results, skipped, backend)
    return {
        **sections,
        "memory": memory.facts(),
        "images": stands[0].setup.images.facts,
        "disk_model": DiskModel().facts() if any(place.simulated for place in options.places) else None,
        "complete": complete,
    }


def _check_places(options: StorageOptions) -> None:
    """Before anything is written: what the kernel knows of the folders."""
    for place in options.places:
        folder = _folder_of(place, options)
        check_kind(place, folder, find_storage(folder))


def _folder_of(place: Place, options: StorageOptions) -> Path:
    import tempfile

    return place.folder or options.data or Path(tempfile.gettempdir())


def _stands(options: StorageOptions, opened: ExitStack) -> list[_Stand]:
    """Each storage with its set; those without a folder of their own share one."""
    sets: dict[Path | None, ImageSet] = {}
    stands = []
    for place in options.places:
        if place.folder not in sets:
            sets[place.folder] = _written(place, options, opened)
        images = sets[place.folder]
        storage = measured(images.folder, images.paths)
        check_kind(place, images.folder, storage)
        disk = SimulatedDisk(DiskModel()) if place.simulated else None
        profile = "hdd" if place.simulated else "auto"
        stands.append(_Stand(place, storage, Setup(images, profile, disk, options.prefetch_mb)))
    return stands


def _written(place: Place, options: StorageOptions, opened: ExitStack) -> ImageSet:
    if options.data is None:
        return opened.enter_context(drawn(options.drawn, place.folder))
    if place.folder is None:
        return taken(options.data)
    return opened.enter_context(copied(options.data, place.folder))


@contextmanager
def _opened_backend(options: StorageOptions) -> Iterator[Backend]:
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
"""What is done (``read``, ``cache``, ``stream``, ``cost``), storage, decoder, workers (or pass of the cache), state."""
_Runs = dict[_Key, Callable[[], Any]]


def _runs(
    options: StorageOptions,
    stands: list[_Stand],
    caches: dict[str, Path],
    backend: Backend | None,
    prepare: Prepare | None,
) -> tuple[_Runs, dict[tuple[str, str], str]]:
    """All that is measured, and of (storage, decoder) why it is not."""
    runs: _Runs = {}
    skipped: dict[tuple[str, str], str] = {}
    for stand in stands:
        label = stand.place.label
        for decoder in options.decoders or DECODERS:
            why = why_not(decoder, stand.setup.images)
            if why is not None:
                skipped[label, decoder] = why
                continue
            for workers in options.tried:
                for state in STATES:
                    read = partial(stand.setup.read, decoder, workers, cold=state == "cold")
                    runs["read", label, decoder, workers, state] = read
    for stand in stands:
        label = stand.place.label
        if label in caches:
            for number in ("first", "second"):
                passes = _CachePass(stand.setup, caches[label], empty=number == "first")
                runs["cache", label, "cv2", number, "cold"] = passes
        if backend is not None:
            for state in STATES:
                runs["stream", label, "cv2", AUTO, state] = partial(_streamed, stand.setup, backend, prepare, state)
            if backend.device.startswith("CPU"):  # elsewhere the processor's time is no limit
                runs["cost", label, "cv2", AUTO, "warm"] = partial(_costs, stand.setup, backend, prepare)
    return runs, skipped


@dataclass(frozen=True, slots=True)
class _CachePass:
    setup: Setup
    folder: Path
    empty: bool

    def __call__(self) -> Pass:
        if self.empty:
            for path in self.folder.rglob("*"):
                if path.is_file():
                    path.unlink()
        return self.setup.read_through(self.folder)


def _streamed(setup: Setup, backend: Backend, prepare: Prepare | None, state: str) -> tuple[Run, float]:
    in_memory = setup.chill() if state == "cold" else setup.warm()
    source = setup.source("cv2")
    run = run_pipeline(source, backend, prepare)
    refuse_damaged(source)
    return run, in_memory


def _costs(setup: Setup, backend: Backend, prepare: Prepare | None) -> dict[str, float]:
    setup.warm()
    return cpu_costs(lambda: setup.source("cv2"), backend, prepare)


def _sections(
    options: StorageOptions,
    stands: list[_Stand],
    results: dict[_Key, list[Any]],
    skipped: dict[tuple[str, str], str],
    backend: Backend | None,
) -> dict[str, Any]:
    storages = [
        {
            **stand.facts(),
            "kind": "hdd" if stand.place.simulated else stand.storage.kind,
            "asked_for": stand.place.kind,
            "known_by": stand.known_by,
            "folder": str(stand.setup.images.folder),
        }
        for stand in stands
    ]
    reading, cache, pipeline = [], [], []
    for stand in stands:
        label = stand.place.label
        for decoder in options.decoders or DECODERS:
            if (label, decoder) in skipped:
                reading.append(_reading_row(stand, decoder, None, {}, skipped[label, decoder]))
                continue
            for workers in options.tried:
                states = {state: results.get(("read", label, decoder, workers, state)) for state in STATES}
                if any(states.values()):
                    reading.append(_reading_row(stand, decoder, workers, states, None))
        passes = {number: results.get(("cache", label, "cv2", number, "cold")) for number in ("first", "second")}
        if all(passes.values()):
            cache.append(stand.facts() | {number: _passes(found, "cold") for number, found in passes.items()})
        for state in STATES:
            found = results.get(("stream", label, "cv2", AUTO, state))
            if found and backend is not None:
                # None of the cold rows: there the storage may be what limits.
                costs = results.get(("cost", label, "cv2", AUTO, state), [])
                limit = limit_facts([run for run, _ in found], costs)
                pipeline.append(_pipeline_row(stand, state, found, options, backend) | limit)
    return {
        "storages": storages,
        "reading": reading,
        "cache": cache,
        "pipeline": pipeline,
        "automatic": shares_of_best(reading),
        "ratios": ratios(reading, cache, pipeline),
    }


def _reading_row(
    stand: _Stand, decoder: str, workers: int | str | None, states: dict[str, Any], skipped: str | None
) -> dict[str, Any]:
    row = stand.facts() | {"decoder": decoder, "workers": workers, "skipped": skipped}
    return row | {state: _passes(states.get(state), state) for state in STATES}


def _passes(passes: list[Pass] | None, state: str) -> dict[str, Any] | None:
    if not passes:
        return None
    in_memory = [one.in_memory for one in passes]
    return {
        "images_per_s": spread([one.images_per_s for one in passes]),
        "mb_per_s": spread([one.mb_per_s for one in passes]),
        **_as_said(in_memory, state),
    }


def _as_said(in_memory: list[float], state: str) -> dict[str, Any]:
    """How much of the set lay in memory, in the worst round, and whether that is cold, or warm, as it was to be."""
    worst = max(in_memory) if state == "cold" else min(in_memory)
    good = worst <= MEASURED_FROM if state == "cold" else worst >= 1 - MEASURED_FROM
    return {"in_memory": worst, "as_said": good}


def _pipeline_row(
    stand: _Stand, state: str, found: list[tuple[Run, float]], options: StorageOptions, backend: Backend
) -> dict[str, Any]:
    return {
        **stand.facts(),
        "source": stand.place.label,
        "state": state,
        "decoder": "cv2",
        **_as_said([in_memory for _, in_memory in found], state),
        "asked_for": options.backend,
        **backend.facts(),
        **preprocess_facts(backend.spec, override_steps(backend.spec, options.preprocess)),
        **row_facts([run for run, _ in found]),
    }
