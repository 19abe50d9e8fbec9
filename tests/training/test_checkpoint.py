from __future__ import annotations

import random
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rtseg.errors import CheckpointError, OptionError, SinkError
from rtseg.models.icnet import ICNet
from rtseg.training.checkpoint import load_checkpoint, network_from_checkpoint, save_checkpoint


def state(**changes: object) -> dict[str, Any]:
    return {
        "network": {"weight": torch.arange(6.0).reshape(2, 3)},
        "architecture": "icnet",
        "classes": ["Road", "Car"],
        "palette": [[1, 2, 3], [4, 5, 6]],
        "scores": {"miou": 0.5, "iou": {"Road": None}},
    } | changes


class TestSaving:
    def test_what_is_saved_is_loaded_again(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "a.safetensors", state())
        loaded = load_checkpoint(tmp_path / "a.safetensors")
        assert torch.equal(loaded.pop("network")["weight"], state()["network"]["weight"])
        assert loaded == {key: value for key, value in state().items() if key != "network"}

    def test_nothing_but_the_file_is_left(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "a.safetensors", state())
        save_checkpoint(tmp_path / "a.safetensors", state(classes=["Sky", "Tree"]))
        assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
        assert load_checkpoint(tmp_path / "a.safetensors")["classes"] == ["Sky", "Tree"]

    def test_on_a_full_disk_the_old_file_stays_and_nothing_half_written(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "a.safetensors", state())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            with pytest.raises(SinkError, match=r"cannot write .*a\.safetensors .*make room, or give another --output"):
                save_checkpoint(tmp_path / "a.safetensors", state(classes=["Sky", "Tree"]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
        assert load_checkpoint(tmp_path / "a.safetensors")["classes"] == ["Road", "Car"]

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SinkError, match=r"cannot write .*a\.safetensors"):
            save_checkpoint(tmp_path / "missing" / "a.safetensors", state())


class TestLoading:
    def refused(self, path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_a_missing_file_says_who_writes_one(self, tmp_path: Path) -> None:
        assert "`rtseg train` writes best.safetensors and last.safetensors" in self.refused(tmp_path / "a.safetensors")
        assert "no checkpoint at" in self.refused(tmp_path)

    def test_a_file_that_was_cut_off_anywhere_is_refused(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "whole.safetensors", state())
        whole = (tmp_path / "whole.safetensors").read_bytes()
        path = tmp_path / "cut.safetensors"
        for length in range(0, len(whole) - 1, len(whole) // 25):
            path.write_bytes(whole[:length])
            self.refused(path)

    def test_damaged_bytes_raise_only_a_checkpoint_error(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "whole.safetensors", state())
        whole = (tmp_path / "whole.safetensors").read_bytes()
        dice = random.Random(0)
        path = tmp_path / "odd.safetensors"
        refused = 0
        for _ in range(300):
            harmed = bytearray(whole)
            for _ in range(3):
                harmed[dice.randrange(len(harmed))] = dice.randrange(256)
            path.write_bytes(harmed)
            try:
                load_checkpoint(path)
            except CheckpointError:
                refused += 1
        assert refused > 100

    @pytest.mark.parametrize("missing", ["network", "architecture", "classes", "palette"])
    def test_a_file_of_another_program_is_refused(self, tmp_path: Path, missing: str) -> None:
        save_checkpoint(tmp_path / "a.safetensors", {key: value for key, value in state().items() if key != missing})
        assert "is not a checkpoint of rtseg: it lacks" in self.refused(tmp_path / "a.safetensors")

    def test_tensors_of_another_program_are_no_checkpoint(self, tmp_path: Path) -> None:
        save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors")
        assert "is not a checkpoint of rtseg: it lacks architecture, classes" in self.refused(
            tmp_path / "a.safetensors"
        )

    def test_a_pickle_is_no_checkpoint_whatever_its_name(self, tmp_path: Path) -> None:
        torch.save(state(), tmp_path / "a.safetensors")
        assert "is damaged or not a checkpoint of rtseg" in self.refused(tmp_path / "a.safetensors")

    def test_values_of_every_kind_come_back(self, tmp_path: Path) -> None:
        odd = {"pairs": {0: {"step": torch.tensor(3.0)}, 1: {}}, "list": [1, None, [torch.arange(2)], {"a": True}]}
        save_checkpoint(tmp_path / "a.safetensors", state(odd=odd, half=torch.ones(2, 3).T.bfloat16()))
        loaded = load_checkpoint(tmp_path / "a.safetensors")
        assert loaded["odd"]["pairs"][0]["step"] == 3
        assert loaded["odd"]["pairs"][1] == {}
        assert loaded["odd"]["list"][:2] == [1, None]
        assert loaded["odd"]["list"][2][0].tolist() == [0, 1]
        assert loaded["odd"]["list"][3] == {"a": True}
        assert (loaded["half"].dtype, loaded["half"].shape) == (torch.bfloat16, (3, 2))


class TestNetworkOf:
    def test_the_network_has_the_weights_and_is_ready_to_evaluate(self, icnet: ICNet) -> None:
        facts = state(network=icnet.state_dict(), classes=[str(number) for number in range(11)])
        network = network_from_checkpoint(facts, Path("a.safetensors"))
        assert not network.training
        image = torch.zeros(1, 3, 64, 96)
        with torch.no_grad():
            torch.testing.assert_close(network(image), icnet(image), atol=0, rtol=0)

    @pytest.mark.parametrize("classes", [["Road"], [str(number) for number in range(12)]])
    def test_weights_for_another_number_of_classes_are_refused(self, icnet: ICNet, classes: list[str]) -> None:
        facts = state(network=icnet.state_dict(), classes=classes)
        with pytest.raises(CheckpointError, match=r"weights in a\.safetensors do not fit 'icnet'"):
            network_from_checkpoint(facts, Path("a.safetensors"))

    @pytest.mark.parametrize("network", [{}, {"weight": torch.zeros(3)}, [1], "weights", {"stem.0.0.weight": "text"}])
    def test_weights_of_another_network_are_refused(self, network: object) -> None:
        with pytest.raises(CheckpointError, match=r"weights in a\.safetensors do not fit 'icnet'"):
            network_from_checkpoint(state(network=network), Path("a.safetensors"))

    def test_an_unknown_network_is_refused_with_those_known(self) -> None:
        with pytest.raises(OptionError, match=r"unknown network 'other'; known are .*icnet"):
            network_from_checkpoint(state(architecture="other"), Path("a.safetensors"))
