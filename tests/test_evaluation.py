from __future__ import annotations

from pathlib import Path

import pytest
from doubles import blue_graph, wide_spec

from rtseg.camvid import CLASSES
from rtseg.errors import DatasetError, OptionError
from rtseg.evaluation import Evaluation
from rtseg.spec import file_sha256, write_spec

DATA = "synthetic:street,frames=3"


def test_it_says_what_was_judged_by_what(icnet_file: Path) -> None:
    with Evaluation(str(icnet_file), DATA, "val", backend="onnxruntime") as evaluation:
        facts = evaluation.run()
    assert (facts["model"], facts["model_sha256"]) == ("tiny", file_sha256(icnet_file))
    assert (facts["data"], facts["pictures"], facts["size"]) == ("synthetic street val (3 frames)", 3, [64, 96])
    assert (facts["backend"], facts["precision"], facts["device"]) == ("onnxruntime", "fp32", "CPU")
    assert set(facts["iou"]) == set(CLASSES)
    assert 0 <= facts["miou"] <= 1
    assert 0 < facts["pixel_accuracy"] < 1


def test_only_the_pictures_that_were_judged_are_counted(icnet_file: Path) -> None:
    with Evaluation(str(icnet_file), DATA, "val", backend="onnxruntime") as evaluation:
        assert evaluation.run([2, 0])["pictures"] == 2
        assert evaluation.run([1])["pictures"] == 1


def test_a_model_of_other_classes_than_the_data_is_refused_with_both(tmp_path: Path) -> None:
    model = blue_graph()
    write_spec(model, wide_spec((4, 6)))
    path = tmp_path / "wide.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DatasetError, match=r"wide knows class 0, .*has Sky, .*: evaluate on data with"):
        Evaluation(str(path), DATA, "val")


def test_an_option_that_is_wrong_is_refused(icnet_file: Path) -> None:
    with pytest.raises(OptionError, match="unknown backend 'caffe'"):
        Evaluation(str(icnet_file), DATA, "val", backend="caffe")
