"""Makes a model file of a foreign ONNX file: finds out what it is, adds both ends, and proves the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from rtseg.errors import ModelError, OptionError, ProofError
from rtseg.importing.choose import Score, choose_by_miou, data_statistics, load_labelled, write_contact_sheet
from rtseg.importing.class_names import find_classes
from rtseg.importing.describe import find_input
from rtseg.importing.head import add_head
from rtseg.importing.heads import choose_heads
from rtseg.importing.normalize_graph import BATCH, fix_input_size, normalize_graph, prune, rename
from rtseg.importing.options import ImportOptions
from rtseg.importing.plan import Fact, NetworkInput, Normalization, Plan, Size
from rtseg.importing.propose import INPUT_VALUES, candidates, choose_normalization, choose_sizes
from rtseg.importing.prove import MIN_AGREEMENT, Agreement, Original, compare, proof_images, to_network
from rtseg.importing.read import read_foreign
from rtseg.importing.runtime import Session
from rtseg.importing.side_files import SideFacts, read_side_files
from rtseg.importing.strip import expose_scores
from rtseg.importing.tail import add_tail
from rtseg.model_file.foreign import describe_value, graph_inputs, producer_of
from rtseg.model_file.spec import ModelSpec, file_sha256, write_spec
from rtseg.system.atomic_files import atomic_path, locked_output, sink_errors

__all__ = ["ImportedModel", "Origin", "import_onnx"]

_MAX_TEXT = 500
_OWN_NAMES = ("frames", "labels")
_UNKNOWN_LICENCE = "not stated in the file: see where it comes from"


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known about the weights from elsewhere; see the fields of ``ModelSpec``."""

    trained_on: str = ""
    licence: str = _UNKNOWN_LICENCE
    miou: float | None = None
    measured_on: str = ""
    source: str = ""
    """Where the file comes from, e.g. a URL or the name of published weights."""
    normalization: Normalization | None = None
    """How the network wants its input, if this is known for certain."""
    classes: tuple[str, ...] | None = None
    """Its classes, if they are known for certain."""


@dataclass(frozen=True, slots=True, eq=False)
class ImportedModel:
    """A model file that was made, and what was found out."""

    path: Path
    spec: ModelSpec
    facts: tuple[Fact, ...]
    agreement: Agreement
    """With the original."""
    changes: tuple[str, ...] = field(default=())
    """What was changed in the graph, beside both ends."""
    scores: tuple[Score, ...] = field(default=())
    """The mIoU of the input values that were tried on labelled images, the best first."""
    sheet: Path | None = None
    """An image with the overlays of several input values, if those of the model are guessed."""

    @property
    def guesses(self) -> tuple[Fact, ...]:
        """What may be wrong."""
        return tuple(fact for fact in self.facts if fact.is_guess)


def import_onnx(
    path: Path,
    options: ImportOptions | None = None,
    *,
    origin: Origin | None = None,
    on_progress: Callable[[str], None] = lambda phase: None,
) -> ImportedModel:
    """Make a model file of a foreign ONNX file.

    Args:
        path: the file. Weights beside it are read too.
        options: what the user says about it; the rest is found out.
        origin: what is known about the weights from elsewhere.
        on_progress: called with the name of each phase.

    Raises:
        ModelError: it is no network for semantic segmentation that rtseg can run, or not enough is known about it.
        OptionError: an option does not fit it.
        ProofError: the model file and the original disagree on more than 0.1 % of the pixels.
        SinkError: the file cannot be written.
        MissingExtra: ONNX Runtime is not installed.
    """
    options, origin = options or ImportOptions(), origin or Origin()
    output = options.output or Path(f"{path.stem}-rtseg.onnx")
    if output.exists() and path.exists() and output.samefile(path):
        raise OptionError(f"--output {output} is the model itself: choose another file")
    on_progress("reading")
    foreign = read_foreign(path, options.allow_external)
    sides = [*_known(origin), *read_side_files(foreign, path)]
    on_progress("finding out what it is")
    graph, changes = normalize_graph(foreign)
    plan, original = _make_plan(foreign, graph, options, sides, origin.source or str(path))
    scores: list[Score] = []
    if options.data is not None:
        plan, scores = _choose(original, plan, options, on_progress)
    on_progress("adding both ends")
    model, has_fixed_batch = _build(graph, plan)
    spec = _make_spec(foreign, plan, options, origin, path)
    on_progress("comparing with the original")
    agreement = compare(original, model, plan, str(output))
    if agreement.share < MIN_AGREEMENT:
        raise ProofError(
            f"the imported {origin.source or path} and the original agree on only {agreement.share:.2%} of the pixels: "
            "nothing was written; please report it with the file"
        )
    spec.extra["import"] |= {"agreement": round(agreement.share, 6), "changes": changes}
    if has_fixed_batch:
        spec = replace(spec, batch=1)
        changes = [*changes, "takes one image at a time"]
    if scores:
        measured = {"miou": round(scores[0].miou, 4), "data": options.data, "split": options.split}
        spec.extra["import"]["measured"] = measured
    _write(model, spec, output)
    sheet = _draw_guesses(original, plan, options, output, on_progress)
    facts = tuple(replace(fact, **{key: _displayable(text) for key, text in _texts(fact)}) for fact in plan.facts)
    return ImportedModel(output, spec, facts, agreement, tuple(changes), tuple(scores), sheet)


def _choose(
    original: Original, plan: Plan, options: ImportOptions, on_progress: Callable[[str], None]
) -> tuple[Plan, list[Score]]:
    """Return the plan with the input values that give the best labels, and all that were tried."""
    images = load_labelled(options.data or "", options.split, plan)
    (given,) = [fact for fact in plan.facts if fact.what == INPUT_VALUES]
    tried = [plan.normalization]
    if options.scale is None and not options.mean and not options.std:
        tried = candidates(plan.normalization)
        tried += data_statistics(images, tried)
        if options.bgr is not None:
            tried = [each for each in tried if each.bgr == options.bgr]
    scores = choose_by_miou(original, plan, tried, images, on_progress)
    best = scores[0]
    reason = f"best of {len(scores)} on {images.name}" if len(scores) > 1 else given.reason
    fact = Fact(INPUT_VALUES, str(best.normalization), reason)
    facts = tuple(fact if each is given else each for each in plan.facts)
    return replace(plan, normalization=best.normalization, facts=facts), scores


def _draw_guesses(
    original: Original, plan: Plan, options: ImportOptions, output: Path, on_progress: Callable[[str], None]
) -> Path | None:
    """Draw the overlays of several input values if those of the plan are guessed."""
    if not any(fact.what == INPUT_VALUES and fact.is_guess for fact in plan.facts):
        return None
    on_progress("drawing overlays")
    sheet = output.with_name(f"{output.stem}-inputs.png")
    write_contact_sheet(sheet, original, plan, candidates(plan.normalization), options.images)
    return sheet


def _known(origin: Origin) -> list[SideFacts]:
    if origin.normalization is None and origin.classes is None:
        return []
    return [SideFacts(origin.classes, None, origin.normalization, source=origin.source or "the published weights")]


def _make_plan(
    foreign: onnx.ModelProto, graph: onnx.ModelProto, options: ImportOptions, sides: list[SideFacts], title: str
) -> tuple[Plan, Original]:
    network, facts = find_input(foreign, title)
    sizes, size_fact = choose_sizes(network, options, sides, title)
    normalization, value_facts = choose_normalization(graph, network, options, sides)
    plan = Plan(
        input=network,
        network_size=sizes.network,
        frame_size=sizes.frame,
        content_size=sizes.content,
        normalization=normalization,
        heads=(),
        classes=(),
        palette=(),
        threshold=options.threshold or 0.5,
    )
    reference = _with_input(foreign, network, sizes.network)
    produced = {name for node in graph.graph.node for name in node.output}
    opened = expose_scores(reference, produced)
    graph.graph.output.extend(onnx.ValueInfoProto(name=scores) for scores, _ in opened.values())
    original = Original(reference, title)
    samples = [original.run(image, plan) for image in proof_images(plan.frame_size)]
    heads, head_facts = choose_heads(graph, network, sizes.network, samples, opened, options, title)
    heads, (classes, palette), class_fact = find_classes(heads, options.classes, options.palette, sides, title)
    plan = replace(
        plan,
        heads=heads,
        classes=classes,
        palette=palette,
        dropped=_dropped(options.drop, classes, heads),
        facts=(*facts, size_fact, *value_facts, *head_facts, class_fact),
    )
    return plan, original


def _with_input(foreign: onnx.ModelProto, network: NetworkInput, size: Size) -> onnx.ModelProto:
    """Return a copy of the original with a fixed input size, which changes nothing else."""
    copy = onnx.ModelProto()
    copy.CopyFrom(foreign)
    value = next(each for each in copy.graph.input if each.name == network.name)
    for dim, length in zip(value.type.tensor_type.shape.dim, network.shape(1, size), strict=True):
        dim.dim_value = length
    return copy


def _dropped(drop: tuple[str, ...], classes: tuple[str, ...], heads: tuple[Any, ...]) -> frozenset[int]:
    lowered = [name.lower() for name in classes]
    unknown = [name for name in drop if name.lower() not in lowered]
    if unknown:
        raise OptionError(f"--drop {unknown[0]}: there is no such class; there are {', '.join(classes)}")
    dropped = frozenset(lowered.index(name.lower()) for name in drop)
    if len(dropped) == len(classes):
        raise OptionError("--drop leaves no class")
    if dropped and any(head.kind == "labels" for head in heads):
        raise OptionError("--drop needs scores, but the argmax is in the graph: export the model without it")
    if 0 in dropped and heads[0].kind == "sigmoid":
        raise OptionError(f"--drop {classes[0]}: it is where no class reaches the threshold, so it cannot be dropped")
    return dropped


def _build(graph: onnx.ModelProto, plan: Plan) -> tuple[onnx.ModelProto, bool]:
    """Return the graph of the model file, and whether it takes only one image at a time."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    names = {head.output for head in plan.heads}
    outputs = [value for value in model.graph.output if value.name in names]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    prune(model.graph)
    batches = _takes_batches(model, plan)
    fix_input_size(model, plan.input.shape(1, plan.network_size)[1:], BATCH if batches else 1)
    plan = _without_taken_names(model, plan)
    batch = None if batches else 1
    add_tail(model, plan, batch)
    add_head(model, plan, batch)
    model.producer_name = "rtseg"
    return model, not batches


def _without_taken_names(model: onnx.ModelProto, plan: Plan) -> Plan:
    """Rename tensors of the network that are called like those of a model file."""
    rename(model.graph, {*_OWN_NAMES})
    new = {name: f"model/{name}" for name in _OWN_NAMES}
    heads = tuple(replace(head, output=new.get(head.output, head.output)) for head in plan.heads)
    name = new.get(plan.input.name, plan.input.name)
    return replace(plan, heads=heads, input=replace(plan.input, name=name))


def _takes_batches(model: onnx.ModelProto, plan: Plan) -> bool:
    """Try two images at once: the result must be that of each alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fix_input_size(copy, plan.input.shape(1, plan.network_size)[1:], BATCH)
    images = [to_network(image, plan) for image, _ in zip(proof_images(plan.frame_size), range(2), strict=False)]
    try:
        session = Session(copy, "the graph")
        both = session.run({plan.input.name: np.concatenate(images)})
        alone = [session.run({plan.input.name: image}) for image in images]
    except ModelError:
        return False
    return all(
        values.shape[:1] == (2,)
        and np.allclose(values, np.concatenate([each[name] for each in alone]), rtol=1e-2, atol=1e-2)
        for name, values in both.items()
    )


def _make_spec(foreign: onnx.ModelProto, plan: Plan, options: ImportOptions, origin: Origin, path: Path) -> ModelSpec:
    facts = {
        "file": path.name,
        "sha256": file_sha256(path),
        "source": origin.source,
        "producer": producer_of(foreign),
        "input": "; ".join(map(describe_value, graph_inputs(foreign))),
        "output": ", ".join(head.output for head in plan.heads),
        "normalization": asdict(plan.normalization),
        "guessed": [fact.what for fact in plan.facts if fact.is_guess],
    }
    return ModelSpec(
        name=options.name or path.stem,
        classes=tuple(plan.classes[index] for index in plan.kept),
        palette=tuple(plan.palette[index] for index in plan.kept),
        size=plan.frame_size,
        trained_on=origin.trained_on,
        licence=origin.licence,
        miou=origin.miou,
        measured_on=origin.measured_on,
        extra={"import": {key: _displayable(value) for key, value in facts.items()}},
    )


def _texts(fact: Fact) -> list[tuple[str, str]]:
    return [("what", fact.what), ("value", fact.value), ("reason", fact.reason)]


def _displayable(value: Any) -> Any:
    """Return a text of a foreign file without characters that are not displayed, and not longer than a few lines."""
    if isinstance(value, str):
        return "".join(sign if sign.isprintable() else "?" for sign in value[:_MAX_TEXT])
    return value


def _write(model: onnx.ModelProto, spec: ModelSpec, output: Path) -> None:
    from rtseg.model_file.load import load_model

    write_spec(model, spec)
    with sink_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with locked_output(output, f"model {output}"), sink_errors(output), atomic_path(output) as part:
        part.write_bytes(model.SerializeToString())
        load_model(part)
