from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.bench.storage.targets import Place, check_kind, parse_places
from rtseg.errors import OptionError
from rtseg.image_io.storage_kind import Storage


class TestParsing:
    def test_kinds_stand_alone_or_with_a_folder(self, tmp_path: Path) -> None:
        places = parse_places(["ssd", f"hdd={tmp_path}", "auto"])
        assert places == [
            Place("ssd", "ssd", None),
            Place(f"hdd {tmp_path}", "hdd", tmp_path),
            Place("auto", "auto", None),
        ]

    def test_two_folders_of_one_kind_have_labels_of_their_own(self, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        labels = [place.label for place in parse_places([f"ssd={tmp_path}", f"ssd={tmp_path / 'b'}"])]
        assert len(set(labels)) == 2

    def test_hard_disks_alone_are_simulated(self) -> None:
        ssd, hdd = parse_places(["ssd", "hdd"], simulate=True)
        assert (ssd.simulated, hdd.simulated) == (False, True)

    @pytest.mark.parametrize(
        ("texts", "simulate", "said"),
        [
            (["tape"], False, "--storage wants ssd, hdd, auto"),
            (["ssd="], False, "--storage wants ssd, hdd, auto"),
            (["ssd=/no/such/folder"], False, "there is no folder /no/such/folder"),
            (["ssd", "ssd"], False, "given twice"),
            (["ssd"], True, "--simulate is for a hard disk"),
        ],
    )
    def test_a_slip_is_told(self, texts: list[str], simulate: bool, said: str) -> None:
        with pytest.raises(OptionError, match=said):
            parse_places(texts, simulate=simulate)


class TestKinds:
    @pytest.mark.parametrize(
        ("asked_for", "found"),
        [("ssd", "hdd"), ("ssd", "network"), ("ssd", "memory"), ("hdd", "ssd"), ("hdd", "memory"), ("hdd", "network")],
    )
    def test_another_kind_is_refused_with_what_it_is(self, asked_for: str, found: str) -> None:
        with pytest.raises(
            OptionError, match=rf"--storage {asked_for}=/x: /x is {found} \(sda says so\), no {asked_for}"
        ):
            check_kind(Place("label", asked_for, Path("/x")), Path("/x"), Storage(found, "sda says so"))

    @pytest.mark.parametrize(
        ("asked_for", "found"), [("ssd", "ssd"), ("hdd", "hdd"), ("ssd", "unknown"), ("hdd", "unknown")]
    )
    def test_the_kind_itself_and_one_that_nobody_knows_are_taken(self, asked_for: str, found: str) -> None:
        check_kind(Place("label", asked_for, None), Path("/x"), Storage(found, ""))

    @pytest.mark.parametrize("found", ["ssd", "hdd", "network", "memory", "unknown"])
    def test_auto_takes_all(self, found: str) -> None:
        check_kind(Place("auto", "auto", None), Path("/x"), Storage(found, ""))

    def test_a_disk_may_be_simulated_on_anything_but_a_disk(self) -> None:
        place = Place("hdd", "hdd", None, simulated=True)
        for kind in ("ssd", "unknown", "memory"):
            check_kind(place, Path("/x"), Storage(kind, ""))
        with pytest.raises(OptionError, match="leave --simulate out"):
            check_kind(place, Path("/x"), Storage("hdd", "sda turns"))
