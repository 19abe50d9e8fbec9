from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.image_io.storage_kind import find_storage


class Machine:
    """The parts of ``/proc`` and ``/sys`` that describe storage, in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mounts: list[str] = []
        (root / "proc/self").mkdir(parents=True)
        (root / "sys/dev/block").mkdir(parents=True)
        (root / "sys/class/block").mkdir(parents=True)
        (root / "dev").mkdir()

    def mount(self, point: str, kind: str, source: str, device: str = "0:50", options: str = "rw") -> None:
        self._mounts.append(f"30 1 {device} / {point} rw,relatime shared:1 - {kind} {source} {options}")
        (self.root / "proc/self/mountinfo").write_text("\n".join(self._mounts) + "\n")

    def disk(self, name: str, device: str, rotational: str | None, model: str = "") -> Path:
        folder = self.root / "sys/devices" / name
        (folder / "queue").mkdir(parents=True)
        if rotational is not None:
            (folder / "queue/rotational").write_text(f"{rotational}\n")
        if model:
            (folder / "device").mkdir()
            (folder / "device/model").write_text(f"{model}\n")
        return self._known(folder, device)

    def partition(self, disk: Path, name: str, device: str) -> Path:
        folder = disk / name
        folder.mkdir()
        (folder / "partition").write_text("1\n")
        return self._known(folder, device)

    def stack(self, name: str, device: str, parts: list[Path]) -> Path:
        folder = self.disk(name, device, "0")  # what the volume itself says must not count
        (folder / "slaves").mkdir()
        for part in parts:
            (folder / "slaves" / part.name).symlink_to(part)
        return folder

    def _known(self, folder: Path, device: str) -> Path:
        (self.root / "sys/dev/block" / device).symlink_to(folder)
        (self.root / "sys/class/block" / folder.name).symlink_to(folder)
        return folder

    def kind(self, path: str) -> str:
        return find_storage(path, root=self.root).kind


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(("rotational", "kind"), [("1", "hdd"), ("0", "ssd"), (None, "unknown")])
def test_a_partition_has_the_kind_of_its_disk(machine: Machine, rotational: str | None, kind: str) -> None:
    machine.partition(machine.disk("sda", "8:0", rotational), "sda1", "8:1")
    machine.mount("/", "ext4", "/dev/sda1", "8:1")
    assert machine.kind("/no/such/file.png") == kind


def test_the_deepest_and_latest_mount_counts(machine: Machine) -> None:
    machine.disk("nvme0n1", "259:0", "0")
    machine.disk("sda", "8:0", "1")
    machine.mount("/data", "xfs", "/dev/nvme0n1", "259:0")
    machine.mount("/", "ext4", "/dev/nvme0n1", "259:0")
    machine.mount("/data", "xfs", "/dev/sda", "8:0")
    assert [machine.kind(path) for path in ("/data/a", "/database/a", "/a")] == ["hdd", "ssd", "ssd"]


def test_a_volume_on_an_encrypted_raid_has_the_kind_of_its_slowest_disk(machine: Machine) -> None:
    fast, slow = machine.disk("sda", "8:0", "0"), machine.disk("sdb", "8:16", "1")
    raid = machine.stack("md0", "9:0", [fast, machine.partition(slow, "sdb1", "8:17")])
    machine.stack("dm-1", "253:1", [machine.stack("dm-0", "253:0", [raid])])
    machine.mount("/", "ext4", "/dev/mapper/vg-root", "253:1")
    found = find_storage("/a.png", root=machine.root)
    assert found.kind == "hdd"
    assert found.why == "sdb is rotational, under md0, under dm-0, under dm-1, ext4 on /"


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_mount_of_another_machine_is_network(machine: Machine, kind: str) -> None:
    machine.mount("/", kind, "server:/share")
    assert machine.kind("/a") == "network"


def test_btrfs_which_has_no_device_number_is_found_by_its_source(machine: Machine) -> None:
    disk = machine.disk("sdc", "8:32", "1")
    machine.partition(disk, "sdc2", "8:34")
    (machine.root / "dev/sdc2").touch()
    machine.mount("/", "btrfs", "/dev/sdc2", "0:35")
    assert machine.kind("/a") == "hdd"


def test_an_overlay_has_the_kind_of_its_visible_layers(machine: Machine) -> None:
    machine.disk("sda", "8:0", "1")
    machine.mount("/", "overlay", "overlay", options="rw,lowerdir=/var/low,upperdir=/var/up,workdir=/var/work")
    assert machine.kind("/a") == "unknown"
    machine.mount("/var", "ext4", "/dev/sda", "8:0")
    (machine.root / "var/up").mkdir(parents=True)
    assert machine.kind("/a") == "hdd"


def test_a_loop_device_has_the_kind_of_its_file_and_a_cycle_is_unknown(machine: Machine) -> None:
    machine.disk("sda", "8:0", "1")
    loop = machine.disk("loop0", "7:0", "0")
    (loop / "loop").mkdir()
    (loop / "loop/backing_file").write_text("/images/a.img\n")
    machine.mount("/", "ext4", "/dev/sda", "8:0")
    machine.mount("/mnt", "ext4", "/dev/loop0", "7:0")
    assert machine.kind("/mnt/a") == "hdd"
    (loop / "loop/backing_file").write_text("/mnt/a.img\n")
    assert machine.kind("/mnt/a") == "unknown"


@pytest.mark.parametrize(("name", "model"), [("vda", ""), ("sda", "QEMU HARDDISK"), ("sdb", "Virtual Disk")])
def test_a_virtual_disk_that_claims_to_be_rotational_is_unknown(machine: Machine, name: str, model: str) -> None:
    machine.disk(name, "8:0", "1", model)
    machine.mount("/", "ext4", f"/dev/{name}", "8:0")
    assert machine.kind("/a") == "unknown"


def test_tmpfs_is_memory_also_with_a_space_in_the_mount_point(machine: Machine) -> None:
    machine.mount("/my\\040files", "tmpfs", "tmpfs")
    assert machine.kind("/my files/a") == "memory"


def test_a_system_without_mountinfo_is_unknown(tmp_path: Path) -> None:
    assert find_storage("/a", root=tmp_path).kind == "unknown"


def test_this_machine_has_a_kind_for_every_path() -> None:
    assert find_storage("/proc/self").why
    assert find_storage(Path(__file__)).kind in ("ssd", "hdd", "network", "memory", "unknown")


def test_the_device_is_that_of_the_mount_itself(machine: Machine) -> None:
    machine.mount("/", "ext4", "/dev/sda1", "8:1")
    machine.mount("/over", "overlay", "overlay", "0:41", "rw,lowerdir=/nowhere")
    found = {path: find_storage(path, root=machine.root).device for path in ("/a", "/over/a")}
    assert found == {"/a": "8:1", "/over/a": "0:41"}


def test_an_unknown_mount_has_no_device(machine: Machine) -> None:
    machine.mount("/mnt", "ext4", "/dev/sda1", "8:1")
    assert find_storage("/a", root=machine.root).device is None
