from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from helpers.doubles import blue_graph
from onnx import TensorProto, helper

from rtseg.errors import ModelError
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec, file_sha256, write_spec
from rtseg.weights import bundled_models, find_model

SPEC = ModelSpec(
    name="kleines Modell",
    classes=("Straße", "Car", "空"),
    palette=((128, 64, 128), (0, 0, 142), (70, 130, 180)),
    size=(4, 6),
    preprocess=("clahe:clip=2,tiles=8",),
    architecture="icnet",
    trained_on="two images",
    licence="none",
    miou=0.5,
    measured_on="one image",
    extra={"epochs": 3, "iou": {"Car": None}},
)


def saved(path: Path, model: onnx.ModelProto, spec: ModelSpec | None = SPEC) -> Path:
    if spec is not None:
        write_spec(model, spec)
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


class TestModelSpec:
    def test_what_is_written_is_read_back_word_for_word(self) -> None:
        assert ModelSpec.from_json(SPEC.to_json()) == SPEC

    def test_only_name_classes_palette_and_size_are_needed(self) -> None:
        facts = {"format": 1, "name": "a", "classes": ["x"], "palette": [[1, 2, 3]], "size": [4, 6], "preprocess": []}
        spec = ModelSpec.from_json(json.dumps(facts))
        assert spec == ModelSpec("a", ("x",), ((1, 2, 3),), (4, 6))

    def test_a_fact_that_a_later_rtseg_added_is_passed_over(self) -> None:
        facts = json.loads(SPEC.to_json()) | {"mood": "good"}
        assert ModelSpec.from_json(json.dumps(facts)) == SPEC

    def test_metadata_of_a_newer_format_ask_for_an_update(self) -> None:
        facts = json.loads(SPEC.to_json()) | {"format": 2}
        with pytest.raises(ModelError, match=r"format 2, this rtseg reads 1: update rtseg"):
            ModelSpec.from_json(json.dumps(facts))

    @pytest.mark.parametrize(
        "text",
        ["", "{", "null", "7", "[]", '"text"', "{}", '{"format": 1}', "[" * 100_000],
        ids=["nothing", "cut off", "null", "number", "list", "text", "empty", "format alone", "a very deep list"],
    )
    def test_a_text_that_is_no_metadata_is_a_model_error(self, text: str) -> None:
        with pytest.raises(ModelError, match="metadata cannot be read"):
            ModelSpec.from_json(text)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"classes": [], "palette": []}, "1 to 255 classes, got 0"),
            ({"classes": [str(n) for n in range(256)], "palette": [[0, 0, 0]] * 256}, "1 to 255 classes, got 256"),
            ({"classes": ["a", "b"]}, "2 classes but 3 colours"),
            ({"classes": ["a", "a", "b"]}, "names repeat"),
            ({"classes": [1, 2, 3]}, "must be strings"),
            ({"name": None}, "must be strings"),
            ({"preprocess": [5]}, "must be strings"),
            ({"miou": "good"}, "miou must be a number"),
            ({"palette": [[0, 0, 0], [0, 0, 256], [0, 0, 0]]}, "colour of 'Car'"),
            ({"palette": [[0, 0, 0], [0, 0, -1], [0, 0, 0]]}, "colour of 'Car'"),
            ({"palette": [[0, 0, 0], [0, 0, 0.5], [0, 0, 0]]}, "colour of 'Car'"),
            ({"palette": [[0, 0, 0], [0, 0], [0, 0, 0]]}, "colour of 'Car'"),
            ({"palette": [1, 2, 3]}, "metadata cannot be read"),
            ({"size": [4]}, "size must be two positive integers"),
            ({"size": [0, 6]}, "size must be two positive integers"),
            ({"size": [4.0, 6.0]}, "size must be two positive integers"),
            ({"size": 5}, "metadata cannot be read"),
        ],
    )
    def test_a_fact_that_cannot_be_true_is_refused(self, change: dict[str, object], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            ModelSpec.from_json(json.dumps(json.loads(SPEC.to_json()) | change))

    def test_a_class_is_found_by_its_name_in_any_case(self) -> None:
        assert SPEC.class_id(" cAR ") == 1

    def test_an_unknown_class_is_refused_with_those_there_are(self) -> None:
        with pytest.raises(ModelError, match=r"no class 'Dog'; it has Straße, Car, 空"):
            SPEC.class_id("Dog")


class TestWriteSpec:
    def test_the_metadata_of_others_stay_and_our_own_are_replaced(self) -> None:
        model = blue_graph()
        model.metadata_props.add(key="author", value="somebody")
        write_spec(model, SPEC)
        write_spec(model, replace(SPEC, name="second"))
        entries = {entry.key: entry.value for entry in model.metadata_props}
        assert len(model.metadata_props) == 2
        assert entries["author"] == "somebody"
        assert ModelSpec.from_json(entries["rtseg"]).name == "second"


class TestLoadModel:
    def test_a_good_file_gives_its_spec_and_its_blue_graph(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.onnx", blue_graph())
        model = load_model(path)
        assert (model.path, model.spec) == (path, SPEC)
        assert [node.op_type for node in model.graph.graph.node] == ["Cast", "Slice", "Squeeze", "Cast"]

    @pytest.mark.parametrize("name", ["model.json", "model.txt", "model.textproto", "model"])
    def test_the_suffix_of_the_file_does_not_matter(self, tmp_path: Path, name: str) -> None:
        assert load_model(saved(tmp_path / name, blue_graph())).spec == SPEC

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        assert "no model file at" in refusal(tmp_path / "none.onnx")

    def test_a_folder_is_no_model_file(self, tmp_path: Path) -> None:
        assert "no model file at" in refusal(tmp_path)

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.onnx"
        path.touch()
        assert "is empty" in refusal(path)

    @pytest.mark.parametrize("name", ["a.onnx", "a.json", "a.txtpb", "a.onnxtxt"])
    @pytest.mark.parametrize(
        "content",
        [b"this is no protobuf, however you turn it", b"\x00" * 64, b'{"a": 1}', b"\xff\xfe\x00\x01" * 99, b"\x08\x08"],
        ids=["text", "zeros", "json", "bytes", "a version alone"],
    )
    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path, name: str, content: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        assert "is not an ONNX file or is damaged" in refusal(path)

    def test_a_file_that_was_cut_off_anywhere_is_refused(self, tmp_path: Path) -> None:
        whole = saved(tmp_path / "whole.onnx", blue_graph()).read_bytes()
        path = tmp_path / "cut.onnx"
        for length in range(1, len(whole), 7):
            path.write_bytes(whole[:length])
            refusal(path)

    def test_a_graph_of_another_program_is_described_with_the_command_that_imports_it(self, tmp_path: Path) -> None:
        path = tmp_path / "a plain one.onnx"
        model = blue_graph()
        model.producer_name, model.producer_version = "pytorch", "2.1"
        text = refusal(saved(path, model, None))
        assert "an ONNX graph by pytorch 2.1 with the input frames: uint8 (N, " in text
        assert "and the output labels: uint8 (N, " in text
        assert text.endswith(f"make one with `rtseg import '{path}' --classes NAME,NAME,...`")

    def test_metadata_that_cannot_be_read_are_refused_with_the_files_name(self, tmp_path: Path) -> None:
        model = blue_graph()
        model.metadata_props.add(key="rtseg", value="{")
        assert "metadata cannot be read" in refusal(saved(tmp_path / "a.onnx", model, None))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"frames": ("frames", TensorProto.FLOAT, ["N", 4, 6, 3])}, "got frames: float [0, 4, 6, 3]"),
            ({"frames": ("frames", TensorProto.UINT8, ["N", 3, 4, 6])}, "got frames: uint8 [0, 3, 4, 6]"),
            ({"frames": ("frames", TensorProto.UINT8, ["N", "H", "W", 3])}, "got frames: uint8 [0, 0, 0, 3]"),
            ({"frames": ("frames", TensorProto.UINT8, [4, 6, 3])}, "got frames: uint8 [4, 6, 3]"),
            ({"frames": ("frames", TensorProto.UINT8, ["N", 8, 6, 3])}, "got frames: uint8 [0, 8, 6, 3]"),
            ({"frames": ("images", TensorProto.UINT8, ["N", 4, 6, 3])}, "got images: uint8 [0, 4, 6, 3]"),
            ({"frames": ("frames", 99, ["N", 4, 6, 3])}, "got frames: type 99 [0, 4, 6, 3]"),
            ({"labels": ("labels", TensorProto.INT64, ["N", 4, 6])}, "got labels: int64 [0, 4, 6]"),
            ({"labels": ("logits", TensorProto.UINT8, ["N", 4, 6])}, "got logits: uint8 [0, 4, 6]"),
            ({"labels": ("labels", TensorProto.UINT8, ["N", 4, 6, 1])}, "got labels: uint8 [0, 4, 6, 1]"),
            ({"labels": ("labels", TensorProto.UINT8, ["N", 2, 3])}, "got labels: uint8 [0, 2, 3]"),
        ],
    )
    def test_another_contract_is_refused_with_what_was_wanted_and_what_was_found(
        self, tmp_path: Path, change: dict[str, tuple[str, int, list[int | str]]], message: str
    ) -> None:
        text = refusal(saved(tmp_path / "a.onnx", blue_graph(**change)))
        assert "is not a model file of rtseg: expected one" in text
        assert f"{next(iter(change))}: uint8 (N, 4, 6" in text
        assert message in text

    def test_a_second_input_or_output_breaks_the_contract(self, tmp_path: Path) -> None:
        for what in ("input", "output"):
            model = blue_graph()
            getattr(model.graph, what).append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
            assert "more: float [1]" in refusal(saved(tmp_path / f"{what}.onnx", model))

    def test_a_graph_without_inputs_breaks_the_contract(self, tmp_path: Path) -> None:
        model = blue_graph()
        del model.graph.input[:]
        assert "got none" in refusal(saved(tmp_path / "a.onnx", model))

    def test_weights_that_are_listed_as_inputs_too_are_no_inputs(self, tmp_path: Path) -> None:
        model = blue_graph()
        model.graph.input.append(helper.make_tensor_value_info("axes", TensorProto.INT64, [1]))
        assert load_model(saved(tmp_path / "a.onnx", model)).spec == SPEC

    def test_metadata_that_tell_of_another_size_than_the_graph_break_the_contract(self, tmp_path: Path) -> None:
        assert "expected one input frames: uint8 (N, 8, 12, 3)" in refusal(
            saved(tmp_path / "a.onnx", blue_graph(), replace(SPEC, size=(8, 12)))
        )


Value = tuple[str, int, list[int | str]]
STATE: Value = ("state", TensorProto.FLOAT, ["N", 8, 2, 3])
NEXT: Value = ("next_state", TensorProto.FLOAT, ["N", 8, 2, 3])


def remembering(states: list[Value], following: list[Value]) -> onnx.ModelProto:
    """Return ``blue_graph`` with more inputs and outputs."""
    model = blue_graph()
    model.graph.input.extend(helper.make_tensor_value_info(*value) for value in states)
    model.graph.output.extend(helper.make_tensor_value_info(*value) for value in following)
    model.graph.node.extend(helper.make_node("Identity", ["state"], [name]) for name, _, _ in following)
    return model


class TestSequenceModel:
    def test_a_state_and_the_next_are_the_one_other_form_and_tell_their_shape(self, tmp_path: Path) -> None:
        assert load_model(saved(tmp_path / "a.onnx", remembering([STATE], [NEXT]))).state_shape == (8, 2, 3)

    def test_a_model_of_single_images_has_no_state(self, tmp_path: Path) -> None:
        assert load_model(saved(tmp_path / "a.onnx", blue_graph())).state_shape is None

    def test_a_weight_of_that_name_is_no_state(self, tmp_path: Path) -> None:
        model = blue_graph()
        model.graph.initializer.append(helper.make_tensor("state", TensorProto.FLOAT, [1, 8, 2, 3], [0.0] * 48))
        model.graph.input.append(helper.make_tensor_value_info(*STATE))
        assert load_model(saved(tmp_path / "a.onnx", model)).state_shape is None

    @pytest.mark.parametrize(
        ("states", "following", "message"),
        [
            ([STATE], [], "got state: float [0, 8, 2, 3]"),
            ([], [NEXT], "got next_state: float [0, 8, 2, 3]"),
            ([("state", TensorProto.FLOAT16, ["N", 8, 2, 3])], [NEXT], "got state: float16 [0, 8, 2, 3]; next_state"),
            ([STATE], [("next_state", TensorProto.DOUBLE, ["N", 8, 2, 3])], "next_state: double [0, 8, 2, 3]"),
            ([("state", TensorProto.FLOAT, ["N", 8, 3, 2])], [NEXT], "state: float [0, 8, 3, 2]; next_state"),
            ([("state", TensorProto.FLOAT, ["N", 8, "h", "w"])], [NEXT], "got state: float [0, 8, 0, 0]"),
            (
                [("state", TensorProto.FLOAT, ["N", 48])],
                [("next_state", TensorProto.FLOAT, ["N", 48])],
                "float [0, 48]",
            ),
        ],
    )
    def test_any_other_form_is_refused_with_what_was_wanted_and_what_was_found(
        self, tmp_path: Path, states: list[Value], following: list[Value], message: str
    ) -> None:
        text = refusal(saved(tmp_path / "a.onnx", remembering(states, following)))
        assert "expected an input state and an output next_state: both float (N, D, h, w)" in text
        assert message in text

    def test_a_second_state_is_one_input_too_many(self, tmp_path: Path) -> None:
        more: Value = ("more", TensorProto.FLOAT, ["N", 8, 2, 3])
        assert "got frames: uint8 [0, 4, 6, 3]; more: float [0, 8, 2, 3]" in refusal(
            saved(tmp_path / "a.onnx", remembering([STATE, more], [NEXT]))
        )


def external(place: str) -> TensorProto:
    """Return a tensor whose data is in another file."""
    tensor = TensorProto(name="secret", data_type=TensorProto.UINT8, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


def _weight(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(external("/etc/passwd"))


def _constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["secret"], value=external("/etc/passwd")))


def _branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [external("/etc/passwd")])
    model.graph.node.append(helper.make_node("If", ["condition"], ["secret"], then_branch=branch, else_branch=branch))


def _function(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Constant", [], ["out"], value=external("/etc/passwd"))]
    model.functions.append(helper.make_function("own", "f", [], ["out"], nodes, [helper.make_opsetid("", 18)]))


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=external("/etc/passwd"), indices=external("x"), dims=[9])
    )


@pytest.mark.parametrize("hide", [_weight, _constant, _branch, _function, _sparse])
def test_a_file_that_keeps_weights_in_another_file_is_refused_wherever_it_says_so(
    tmp_path: Path, hide: Callable[[onnx.ModelProto], None]
) -> None:
    model = blue_graph()
    hide(model)
    text = refusal(saved(tmp_path / "a.onnx", model))
    assert "stores weights in another file, which is refused: save it as a single ONNX file" in text


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 1000)
    assert file_sha256(path) == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_a_file_that_predicts_more_classes_than_it_names_is_refused(tmp_path: Path, bundled: Path) -> None:
    model = load_model(bundled)
    spec = replace(model.spec, classes=model.spec.classes[:5], palette=model.spec.palette[:5])
    assert "predicts 11 classes but names 5" in refusal(saved(tmp_path / "few.onnx", model.graph, spec))


class TestFindModel:
    def test_a_bundled_model_is_found_by_its_name(self, bundled: Path) -> None:
        assert find_model("icnet-camvid") == bundled == bundled_models()["icnet-camvid"]

    def test_a_file_is_found_by_its_path(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.onnx", blue_graph())
        assert find_model(str(path)) == find_model(path) == path

    def test_a_model_that_is_neither_is_refused_with_the_bundled_ones(self) -> None:
        with pytest.raises(ModelError, match=r"no model 'nope': give an \.onnx file .* or icnet-camvid"):
            find_model("nope")

    def test_a_folder_is_refused_with_the_next_step(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"is a folder: give the \.onnx file in it"):
            find_model(tmp_path)

    def test_a_name_too_long_for_any_file_is_a_model_error(self) -> None:
        with pytest.raises(ModelError, match="check the path"):
            find_model("x" * 5000)


class TestBundledModel:
    def test_it_says_what_it_was_trained_on_what_it_may_be_used_for_and_how_good_it_is(self, bundled: Path) -> None:
        spec = load_model(bundled).spec
        assert spec.size == (384, 640)
        assert len(spec.classes) == 11
        assert "CamVid" in spec.trained_on
        assert "non-commercial" in spec.licence
        assert spec.miou is not None
        assert spec.miou > 0.5
        assert "CamVid val" in spec.measured_on

    def test_it_is_no_larger_than_15_mb_and_tells_nothing_of_the_machine_that_made_it(self, bundled: Path) -> None:
        content = bundled.read_bytes()
        assert len(content) <= 15_000_000
        for place in (b"/work", b"/tmp", b"/home", b"site-packages"):
            assert place not in content


class TestUndisplayableTexts:
    @pytest.mark.parametrize("sign", ["\x00", "\x1b", "\n", "\x9b", "\ud800", "\u202e", "\u2028"])
    @pytest.mark.parametrize("field", ["name", "licence", "trained_on", "architecture", "measured_on", "classes"])
    def test_they_are_refused_and_shown_escaped(self, field: str, sign: str) -> None:
        text = f"a{sign}b"
        values = {"classes": (text, "b", "c")} if field == "classes" else {field: text}
        with pytest.raises(ModelError, match="cannot be displayed") as caught:
            replace(SPEC, **values)  # type: ignore[arg-type]
        assert str(caught.value).isprintable()

    def test_those_of_further_facts_too(self) -> None:
        with pytest.raises(ModelError, match="cannot be displayed"):
            replace(SPEC, extra={"a": [{"b\x1b": 1}]})

    def test_those_in_the_file_name_the_file(self, tmp_path: Path) -> None:
        model = blue_graph()
        text = SPEC.to_json().replace("kleines", r"\u001b[2J\ud800")
        model.metadata_props.add(key="rtseg", value=text)
        assert r"\x1b" in refusal(saved(tmp_path / "a.onnx", model, None))
