from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.bench.storage.targets import TargetFolder, check_kind, parse_targets
from rtseg.errors import OptionError
from rtseg.image_io.storage_kind import Storage


class TestParsing:
    def test_a_kind_may_have_a_folder(self, tmp_path: Path) -> None:
        targets = parse_targets(["ssd", f"hdd={tmp_path}", "auto"])
        assert targets == [
            TargetFolder("ssd", "ssd", None),
            TargetFolder(f"hdd {tmp_path}", "hdd", tmp_path),
            TargetFolder("auto", "auto", None),
        ]

    def test_two_folders_of_one_kind_have_different_labels(self, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        labels = [target.label for target in parse_targets([f"ssd={tmp_path}", f"ssd={tmp_path / 'b'}"])]
        assert len(set(labels)) == 2

    def test_only_hard_disks_are_simulated(self) -> None:
        ssd, hdd = parse_targets(["ssd", "hdd"], simulate=True)
        assert (ssd.simulated, hdd.simulated) == (False, True)

    @pytest.mark.parametrize(
        ("texts", "simulate", "message"),
        [
            (["tape"], False, "--storage must be one of ssd, hdd, auto"),
            (["ssd="], False, "--storage must be one of ssd, hdd, auto"),
            (["ssd=/no/such/folder"], False, "there is no folder /no/such/folder"),
            (["ssd", "ssd"], False, "given twice"),
            (["ssd"], True, "--simulate is for a hard disk"),
        ],
    )
    def test_wrong_options_are_refused(self, texts: list[str], simulate: bool, message: str) -> None:
        with pytest.raises(OptionError, match=message):
            parse_targets(texts, simulate=simulate)


class TestKinds:
    @pytest.mark.parametrize(
        ("asked_for", "actual"),
        [("ssd", "hdd"), ("ssd", "network"), ("ssd", "memory"), ("hdd", "ssd"), ("hdd", "memory"), ("hdd", "network")],
    )
    def test_a_storage_of_another_kind_is_refused_and_its_kind_named(self, asked_for: str, actual: str) -> None:
        with pytest.raises(
            OptionError, match=rf"--storage {asked_for}=/x: /x is {actual} \(sda says so\), not {asked_for}"
        ):
            check_kind(TargetFolder("label", asked_for, Path("/x")), Path("/x"), Storage(actual, "sda says so"))

    @pytest.mark.parametrize(
        ("asked_for", "actual"), [("ssd", "ssd"), ("hdd", "hdd"), ("ssd", "unknown"), ("hdd", "unknown")]
    )
    def test_the_stated_kind_and_an_unknown_one_are_accepted(self, asked_for: str, actual: str) -> None:
        check_kind(TargetFolder("label", asked_for, None), Path("/x"), Storage(actual, ""))

    @pytest.mark.parametrize("actual", ["ssd", "hdd", "network", "memory", "unknown"])
    def test_auto_accepts_every_kind(self, actual: str) -> None:
        check_kind(TargetFolder("auto", "auto", None), Path("/x"), Storage(actual, ""))

    def test_a_disk_may_be_simulated_on_any_storage_but_a_hard_disk(self) -> None:
        target = TargetFolder("hdd", "hdd", None, simulated=True)
        for kind in ("ssd", "unknown", "memory"):
            check_kind(target, Path("/x"), Storage(kind, ""))
        with pytest.raises(OptionError, match="remove --simulate"):
            check_kind(target, Path("/x"), Storage("hdd", "sda turns"))
