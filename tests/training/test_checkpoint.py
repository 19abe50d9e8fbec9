from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from rtseg.errors import CheckpointError, OptionError, SinkError
from rtseg.models.icnet import ICNet
from rtseg.training.checkpoint import load_checkpoint, network_of, save_checkpoint


def state(**changes: object) -> dict[str, Any]:
    return {
        "network": {"weight": torch.arange(6.0).reshape(2, 3)},
        "architecture": "icnet",
        "classes": ["Road", "Car"],
        "palette": [[1, 2, 3], [4, 5, 6]],
        "scores": {"miou": 0.5, "iou": {"Road": None}},
    } | changes


class Bomb:
    """Unpickled by anyone who trusts it, it makes a file."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.crater,)


class TestSaving:
    def test_what_is_saved_is_loaded_again(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "a.pt", state())
        loaded = load_checkpoint(tmp_path / "a.pt")
        assert torch.equal(loaded.pop("network")["weight"], state()["network"]["weight"])
        assert loaded == {key: value for key, value in state().items() if key != "network"}

    def test_nothing_but_the_file_is_left(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "a.pt", state())
        save_checkpoint(tmp_path / "a.pt", state(classes=["Sky", "Tree"]))
        assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
        assert load_checkpoint(tmp_path / "a.pt")["classes"] == ["Sky", "Tree"]

    def test_on_a_full_disk_the_old_file_stays_and_nothing_half_written(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full, a disk that is always full")
        save_checkpoint(tmp_path / "a.pt", state())
        (tmp_path / "a.pt.part").symlink_to("/dev/full")
        with pytest.raises(SinkError, match=r"cannot write .*a\.pt .*make room, or give another --output"):
            save_checkpoint(tmp_path / "a.pt", state(classes=["Sky", "Tree"]))
        assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
        assert load_checkpoint(tmp_path / "a.pt")["classes"] == ["Road", "Car"]

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SinkError, match=r"cannot write .*a\.pt"):
            save_checkpoint(tmp_path / "missing" / "a.pt", state())


class TestLoading:
    def refused(self, path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_a_missing_file_says_who_writes_one(self, tmp_path: Path) -> None:
        assert "`rtseg train` writes best.pt and last.pt" in self.refused(tmp_path / "a.pt")
        assert "no checkpoint at" in self.refused(tmp_path)

    def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(self, tmp_path: Path) -> None:
        crater = tmp_path / "crater"
        plain, wrapped, beside, legacy = (tmp_path / name for name in ("plain", "wrapped", "beside", "legacy"))
        plain.write_bytes(pickle.dumps(Bomb(crater)))
        torch.save(Bomb(crater), wrapped)
        torch.save(state(surprise=Bomb(crater)), beside)
        torch.save(state(surprise=Bomb(crater)), legacy, _use_new_zipfile_serialization=False)
        for path in (plain, wrapped, beside, legacy):
            assert "is damaged, or no checkpoint of rtseg" in self.refused(path)
        assert not crater.exists()
        pickle.loads(plain.read_bytes())
        assert crater.exists(), "it was a real bomb"

    def test_a_file_that_was_cut_off_anywhere_is_refused(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "whole.pt", state())
        whole = (tmp_path / "whole.pt").read_bytes()
        path = tmp_path / "cut.pt"
        for length in range(0, len(whole) - 1, len(whole) // 25):
            path.write_bytes(whole[:length])
            self.refused(path)

    def test_whatever_is_wrong_with_its_bytes_only_a_checkpoint_error_comes_out(self, tmp_path: Path) -> None:
        torch.save(state(), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
        legacy = (tmp_path / "legacy.pt").read_bytes()
        dice = random.Random(0)
        path = tmp_path / "odd.pt"
        refused = 0
        for trial in range(300):
            harmed = bytearray(legacy if trial % 2 else b"\x80\x02" + dice.randbytes(60))
            for _ in range(3):
                harmed[dice.randrange(len(harmed))] = dice.randrange(256)
            path.write_bytes(harmed)
            try:
                load_checkpoint(path)
            except CheckpointError:
                refused += 1
        assert refused > 200

    @pytest.mark.parametrize("missing", ["network", "architecture", "classes", "palette"])
    def test_a_file_of_another_program_is_refused(self, tmp_path: Path, missing: str) -> None:
        torch.save({key: value for key, value in state().items() if key != missing}, tmp_path / "a.pt")
        assert "is no checkpoint of rtseg: it lacks" in self.refused(tmp_path / "a.pt")

    def test_a_bare_tensor_is_refused(self, tmp_path: Path) -> None:
        torch.save(torch.zeros(3), tmp_path / "a.pt")
        assert "is no checkpoint of rtseg" in self.refused(tmp_path / "a.pt")


class TestNetworkOf:
    def test_the_network_has_the_weights_and_is_ready_to_evaluate(self, icnet: ICNet) -> None:
        facts = state(network=icnet.state_dict(), classes=[str(number) for number in range(11)])
        network = network_of(facts, Path("a.pt"))
        assert not network.training
        picture = torch.zeros(1, 3, 64, 96)
        with torch.no_grad():
            torch.testing.assert_close(network(picture), icnet(picture), atol=0, rtol=0)

    @pytest.mark.parametrize("classes", [["Road"], [str(number) for number in range(12)]])
    def test_weights_for_another_number_of_classes_are_refused(self, icnet: ICNet, classes: list[str]) -> None:
        facts = state(network=icnet.state_dict(), classes=classes)
        with pytest.raises(CheckpointError, match=r"weights in a\.pt do not fit 'icnet'"):
            network_of(facts, Path("a.pt"))

    @pytest.mark.parametrize("network", [{}, {"weight": torch.zeros(3)}, [1], "weights", {"stem.0.0.weight": "text"}])
    def test_weights_of_another_network_are_refused(self, network: object) -> None:
        with pytest.raises(CheckpointError, match=r"weights in a\.pt do not fit 'icnet'"):
            network_of(state(network=network), Path("a.pt"))

    def test_an_unknown_network_is_refused_with_those_known(self) -> None:
        with pytest.raises(OptionError, match=r"unknown network 'other'; known are .*icnet"):
            network_of(state(architecture="other"), Path("a.pt"))
