from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.doubles import FakeBackend
from numpy.typing import NDArray

from rtseg.backends.base import Ticket
from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.datasets import Dataset, ReadFile
from rtseg.deploy.verify import BUDGETS, Budget, Verdict, drawn_data_notice, open_verification_data, verify
from rtseg.errors import DatasetError, ModelError, OptionError, SinkError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.system.opencv import cv2

SIZE = (8, 12)
SPEC = ModelSpec("three", ("a", "b", "c"), ((250, 0, 0), (0, 250, 0), (0, 0, 250)), SIZE)
ALL = Budget(100, 0.0)
"""A budget that every model meets."""


class Columns(Dataset):
    """Images whose blue value is 0 in the left half and 1 in the right half.

    The ground truth is the same, at twice the size of the model, with a void corner. It has no pixel of class c.
    """

    name = "columns"
    classes = SPEC.classes
    palette = SPEC.palette
    licence = "none"

    def __init__(self, count: int = 4, *, labelled: bool = True, videos: str = "") -> None:
        self.count = count
        self.labelled = labelled
        self.videos = videos
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.count

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Image, Labels]:
        self.loaded.append(index)
        truth = np.zeros((16, 24), np.uint8)
        truth[:, 12:] = 1
        image = truth[..., None].repeat(3, 2)
        truth[:2, :2] = VOID
        return image, truth if self.labelled else np.full_like(truth, VOID)

    def sequence(self, index: int) -> str | None:
        return self.videos[index] if self.videos else None

    def title(self, index: int) -> str:
        return f"somewhere/image-{index}.png"


class Wrong(FakeBackend):
    """The label is the blue value, but class c in the first ``columns`` columns of batch n >= ``since``."""

    def __init__(self, columns: int = 0, since: int = 0, spec: ModelSpec = SPEC, label: int = 2) -> None:
        super().__init__(spec)
        self.columns, self.since, self.label = columns, since, label

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        labels = super()._wait(ticket)
        if ticket.handle[0] >= self.since:
            labels[:, :, : self.columns] = self.label
        return labels


def compare(candidate: FakeBackend, budget: Budget = ALL, data: Dataset | None = None, **options: object) -> Verdict:
    return verify(FakeBackend(SPEC), candidate, Columns() if data is None else data, budget, **options)  # type: ignore[arg-type]


class TestFigures:
    def test_equal_labels_agree_fully_and_pass_the_hardest_budget(self) -> None:
        verdict = compare(Wrong(), Budget(0.0, 1.0))
        assert (verdict.agreement, verdict.miou, verdict.drop) == (1.0, (1.0, 1.0), 0.0)
        assert (verdict.passed, verdict.reasons, verdict.worst) == (True, (), ())

    def test_agreement_is_the_share_of_equal_pixels_over_all_images(self) -> None:
        # 3 of 12 columns differ on 2 of 4 images.
        assert compare(Wrong(3, since=2)).agreement == 1 - 3 / 12 / 2

    def test_iou_is_judged_at_the_size_of_the_truth_without_void(self) -> None:
        verdict = compare(Wrong(3))
        right, of = 16 * 6, 16 * 12 - 4  # class a keeps the columns 6 to 11 of 12, and the void corner is not counted
        assert verdict.iou["a"] == (1.0, pytest.approx(right / of))
        assert verdict.iou["b"] == (1.0, 1.0)

    def test_a_class_that_the_truth_lacks_is_no_part_of_the_mean(self) -> None:
        verdict = compare(Wrong(1, since=3))
        assert set(verdict.iou) == {"a", "b"}
        assert verdict.miou is not None
        assert verdict.miou[1] == pytest.approx((verdict.iou["a"][1] + 1) / 2)
        assert verdict.drop == pytest.approx(100 * (1 - verdict.miou[1]))

    def test_a_candidate_that_is_better_has_a_drop_below_zero(self) -> None:
        verdict = verify(Wrong(2), FakeBackend(SPEC), Columns(), Budget(0.0, None))
        assert verdict.drop is not None
        assert verdict.drop < 0
        assert verdict.passed

    def test_the_worst_images_are_named_the_worst_first_and_without_folder(self) -> None:
        class Worse(Wrong):
            def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
                self.columns = (2, 0, 5, 1)[ticket.handle[0]]
                return super()._wait(ticket)

        assert compare(Worse()).worst == (
            ("image-2.png", 7 / 12),
            ("image-0.png", 10 / 12),
            ("image-3.png", 11 / 12),
        )

    def test_it_says_what_was_judged_by_what_on_which_data(self) -> None:
        verdict = compare(Wrong(), judged_by="the engine on a toaster")
        assert (verdict.judged_by, verdict.data, verdict.images) == ("the engine on a toaster", "columns", 4)
        assert verdict.reference["model"] == verdict.candidate["model"] == "three"
        assert compare(Wrong()).judged_by == "the graph on CPU by fake 1"

    def test_for_json_everything_has_a_name(self) -> None:
        facts = json.loads(json.dumps(compare(Wrong(3, since=2), Budget(1.0, 0.9)).to_dict()))
        assert facts["passed"] is False
        assert len(facts["reasons"]) == 2
        assert facts["budget"] == {"max_drop": 1.0, "min_agreement": 0.9}
        assert facts["miou"]["reference"] - facts["miou"]["candidate"] == pytest.approx(facts["drop"] / 100)
        assert facts["iou"]["b"] == {"reference": 1.0, "candidate": 1.0, "difference": 0.0}
        assert facts["worst"][0] == {"image": "image-2.png", "agreement": 0.75}


class TestBudget:
    def test_those_of_fp16_and_int8_are_as_promised(self) -> None:
        assert (BUDGETS["fp16"], BUDGETS["int8"]) == (Budget(0.05, 0.995), Budget(0.5, 0.975))

    def test_a_drop_past_the_budget_is_told_with_both_numbers(self) -> None:
        verdict = compare(Wrong(3), Budget(5.0, None))
        assert not verdict.passed
        assert verdict.reasons == (f"mIoU drops by {verdict.drop:.2f} points, at most 5 are allowed",)

    def test_a_drop_of_exactly_the_budget_passes(self) -> None:
        drop = compare(Wrong(3)).drop
        assert drop is not None
        assert compare(Wrong(3), Budget(drop, None)).passed

    def test_too_little_agreement_is_told_with_both_numbers(self) -> None:
        verdict = compare(Wrong(3), Budget(100, 0.8))
        assert verdict.reasons == ("only 75.000% of the pixels agree, at least 80.000% are required",)
        assert compare(Wrong(3), Budget(100, 0.75)).passed

    @pytest.mark.parametrize("drop", [-0.1, 100.1, float("nan")])
    def test_a_drop_that_is_none_is_refused(self, drop: float) -> None:
        with pytest.raises(OptionError, match="--max-drop must be points"):
            Budget(drop, None)

    @pytest.mark.parametrize("share", [-0.1, 99.5, float("nan")])
    def test_an_agreement_that_is_no_share_is_refused(self, share: float) -> None:
        with pytest.raises(OptionError, match="--min-agreement must be a share"):
            Budget(1.0, share)


class TestImages:
    @pytest.mark.parametrize(("frames", "loaded"), [(None, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (2, [0, 2])])
    def test_fewer_are_spread_over_the_data(self, frames: int | None, loaded: list[int]) -> None:
        data = Columns(5)
        verdict = compare(Wrong(), data=data, frames=frames)
        assert data.loaded == loaded
        assert verdict.images == len(loaded)
        assert (verdict.data == "2 images of columns") is (frames == 2)

    def test_a_sequence_model_sees_consecutive_frames_and_forgets_where_a_video_ends(self) -> None:
        data = Columns(5, videos="aabbb")
        backends = [FakeBackend(SPEC, recurrent=True) for _ in range(2)]
        verify(*backends, data, ALL, frames=4)
        assert data.loaded == [0, 1, 2, 3]
        assert [backend.resets for backend in backends] == [[0, 2], [0, 2]]

    def test_progress_is_told_after_every_image(self) -> None:
        message: list[tuple[int, int]] = []
        compare(Wrong(), on_progress=lambda done, total: message.append((done, total)), frames=2)
        assert message == [(1, 2), (2, 2)]

    def test_without_truth_agreement_alone_decides(self) -> None:
        verdict = compare(Wrong(3), Budget(0.0, 0.7), Columns(labelled=False))
        assert (verdict.miou, verdict.iou, verdict.drop, verdict.passed) == (None, {}, None, True)
        assert not compare(Wrong(3), Budget(0.0, 0.8), Columns(labelled=False)).passed

    def test_without_truth_a_budget_of_miou_alone_would_pass_anything_and_is_refused(self) -> None:
        with pytest.raises(DatasetError, match="only the agreement can be checked: give --data or --min-agreement"):
            compare(Wrong(12), Budget(0.5, None), Columns(labelled=False))

    def test_no_image_proves_nothing(self) -> None:
        with pytest.raises(DatasetError, match="columns holds no image"):
            compare(Wrong(), data=Columns(0))

    def test_a_count_of_zero_is_refused(self) -> None:
        with pytest.raises(OptionError, match="--frames must be at least 1, got 0"):
            compare(Wrong(), frames=0)

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"classes": ("a", "b", "d")}, r"classes differ \(a, b, c; a, b, d\)"),
            ({"size": (12, 8)}, r"size differ \(8x12; 12x8\)"),
            ({"channels": 4}, r"channels differ \(3; 4\)"),
        ],
    )
    def test_models_that_cannot_be_compared_are_refused_with_what_differs(
        self, change: dict[str, object], what: str
    ) -> None:
        with pytest.raises(ModelError, match=what):
            compare(Wrong(spec=replace(SPEC, **change)))  # type: ignore[arg-type]


class TestDrawings:
    def test_image_both_labels_and_their_difference_stand_side_by_side(self, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "worst"
        compare(Wrong(3, since=3), worst_dir=folder)
        (path,) = folder.iterdir()
        assert path.name == "1-75.00-image-3.png"
        drawn = cv2.imread(str(path))
        panels = [drawn[-200:, x : x + 300] for x in np.linspace(6, drawn.shape[1] - 330, 4).astype(int)]
        left = [panel[:, 10:60].reshape(-1, 3).mean(0) for panel in panels]  # the columns that are wrong
        right = [panel[:, 200:280].reshape(-1, 3).mean(0) for panel in panels]
        assert left[1].argmax() == 2  # reference: class a, red
        assert left[2].argmax() == 0  # candidate: class c, blue
        assert left[3][1:].min() > 200 > left[3][0]  # yellow
        np.testing.assert_allclose(right[1], right[2])
        assert right[3].max() < 10

    def test_images_that_agree_are_not_drawn(self, tmp_path: Path) -> None:
        compare(Wrong(3, since=2), worst_dir=tmp_path)
        assert {path.name[2:] for path in tmp_path.iterdir()} == {"75.00-image-2.png", "75.00-image-3.png"}

    def test_no_more_than_six_are_drawn(self, tmp_path: Path) -> None:
        verdict = compare(Wrong(3), data=Columns(9), worst_dir=tmp_path)
        assert len(verdict.worst) == len(list(tmp_path.iterdir())) == 6

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SinkError, match=r"cannot create the folder .*file/x \(.*\): give another --worst"):
            compare(Wrong(3), worst_dir=tmp_path / "file" / "x")


class TestProofData:
    def test_a_model_of_streets_gets_drawn_streets_with_their_truth(self) -> None:
        data = open_verification_data(ModelSpec("m", CLASSES, PALETTE, SIZE), None)
        assert data.classes == CLASSES
        assert data.load(0)[1].max() < len(CLASSES)

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_any_other_model_gets_drawn_streets_of_its_channels_without_truth(self, channels: int) -> None:
        data = open_verification_data(replace(SPEC, channels=channels), None)
        image, truth = data.load(5)
        assert image.shape == (*truth.shape, channels)
        assert (truth == VOID).all()
        assert image.std() > 20
        assert not np.array_equal(image, data.load(6)[0])
        assert data.sequence(4) == data.sequence(7) != data.sequence(8)

    def test_a_model_from_elsewhere_on_drawn_streets_is_remarked_on(self) -> None:
        foreign = ModelSpec("rooms", ("wall", "floor"), PALETTE[:2], SIZE)
        assert "rooms is compared on drawn streets, which it was not made for" in drawn_data_notice(foreign, None)
        assert drawn_data_notice(foreign, "voc:VOC2012") == ""
        assert drawn_data_notice(replace(foreign, architecture="icnet"), None) == ""
        assert drawn_data_notice(ModelSpec("m", CLASSES, PALETTE, SIZE), None) == ""

    def test_data_that_the_user_names_must_have_the_classes_of_the_model(self) -> None:
        named = open_verification_data(ModelSpec("m", CLASSES, PALETTE, SIZE), "synthetic:street,frames=2", "train")
        assert named.name == "synthetic street train (2 frames)"
        with pytest.raises(
            DatasetError, match=r"has Sky, .*, which three lacks .it has a, b, c.: give --data with the same"
        ):
            open_verification_data(SPEC, "synthetic:street,frames=2")
