"""What kind of storage a path lies on, as far as the kernel knows: it seeks, it does not, or it is another machine.

Linux only: the mount is found in ``/proc/self/mountinfo``, what is below it in ``/sys``. Nothing on the mount itself is
opened, so that a mount that hangs does not hold the answer beyond resolving the path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtseg.image_io.find import ImageLocation

__all__ = ["KINDS", "REMOTE", "Storage", "find_storage", "slowest", "storage_for"]

KINDS = ("ssd", "hdd", "network", "memory", "unknown")
"""``ssd``: no moving part. ``hdd``: a disk that turns and seeks. ``network``: a mount of another machine. ``memory``:
tmpfs and the like. ``unknown``: the kernel does not say, or is known to guess (disks of virtual machines)."""
_NETWORK = re.compile(
    "9p|afs|beegfs|ceph|cifs|coda|glusterfs|gpfs|lustre|nfs4?|orangefs|smb3|smbfs|"
    r"fuse\.(ceph-fuse|gcsfuse|glusterfs|goofys|juicefs|mount-s3|rclone|s3fs|sshfs)"
)
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_REMOTE_DISKS = re.compile(r"nbd|rbd|drbd")
_DISKS_IN_MEMORY = re.compile(r"zram|ram|pmem")
_VIRTUAL_DISKS = re.compile(r"vd|xvd")
_VIRTUAL_MODELS = re.compile(r"QEMU|VBOX|VMware|Virtual|PersistentDisk|BHYVE", re.IGNORECASE)
_DEEPEST = 8
"""Of loops on overlays on crypt on RAID: more is a circle."""
_SLOWEST_FIRST = ("hdd", "network", "unknown", "ssd", "memory")
REMOTE = "remote"
"""The kind of what fsspec reads: an object store or web server, far away, which answers many at once."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The storage of a path."""

    kind: str
    """One of ``KINDS``."""
    why: str
    """How that is known, in a few words: ``sda turns, ext4 on /data``."""
    device: str | None = field(default=None, compare=False)
    """``major:minor`` of the mount, as ``st_dev`` of its files; None where no mount is known."""


@dataclass(frozen=True, slots=True)
class _Mount:
    point: str
    device: str
    """``major:minor``; the major is 0 where no block device answers for it (btrfs, overlay, tmpfs, network)."""
    kind: str
    source: str
    options: str


def find_storage(path: str | Path, *, root: Path = Path("/")) -> Storage:
    """The storage of ``path``, which need not exist; RAIDs and volumes are as slow as their slowest part.

    Args:
        path: a file or folder.
        root: where ``proc`` and ``sys`` are, for tests.
    """
    try:
        mounts = _mounts((root / "proc/self/mountinfo").read_text())
    except OSError:
        return Storage("unknown", "the system has no /proc/self/mountinfo")
    real = os.path.realpath(path)
    mount = _mount_of(real, mounts)
    return replace(_of_path(real, mounts, root, _DEEPEST), device=mount.device if mount else None)


def _mounts(text: str) -> list[_Mount]:
    """Source: proc_pid_mountinfo(5). Spaces within a field are written as octal escapes."""
    found = []
    for line in text.splitlines():
        fields = [re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) for field in line.split(" ")]
        end = fields.index("-")
        found.append(_Mount(fields[4], fields[2], fields[end + 1], fields[end + 2], fields[-1]))
    return found


def _mount_of(path: str, mounts: Sequence[_Mount]) -> _Mount | None:
    covering = [mount for mount in mounts if f"{path}/".startswith(mount.point.rstrip("/") + "/")]
    # Of mounts on one point the last one covers the others.
    found = max(enumerate(covering), key=lambda place: (len(place[1].point), place[0]), default=None)
    return found[1] if found else None


def _of_path(path: str, mounts: Sequence[_Mount], root: Path, depth: int) -> Storage:
    mount = _mount_of(path, mounts)
    if mount is None or depth == 0:
        return Storage("unknown", f"no mount is known for {path}")
    where = f"{mount.kind} on {mount.point}"
    if _NETWORK.fullmatch(mount.kind):
        return Storage("network", where)
    if mount.kind in _MEMORY:
        return Storage("memory", where)
    if mount.kind == "overlay":
        return _of_layers(mount, mounts, root, depth)
    device = _block_device(mount, root)
    if device is None:
        return Storage("unknown", f"{where}: no disk is known for it")
    below = _of_device(device, mounts, root, depth)
    return Storage(below.kind, f"{below.why}, {where}")


def _of_layers(mount: _Mount, mounts: Sequence[_Mount], root: Path, depth: int) -> Storage:
    """An overlay lies where its layers lie; a container may not see them."""
    layers = re.findall(r"(?:upperdir|lowerdir)=([^,]+)", mount.options)
    places = [place for layer in layers for place in layer.split(":") if place.startswith("/")]
    own = [other for other in mounts if other is not mount]
    found = [_of_path(place, own, root, depth - 1) for place in places if (root / place.lstrip("/")).exists()]
    if not found:
        return Storage("unknown", f"overlay on {mount.point}, whose layers cannot be seen from here")
    below = slowest(found)
    return Storage(below.kind, f"{below.why}, under overlay on {mount.point}")


def _block_device(mount: _Mount, root: Path) -> Path | None:
    """Its folder in ``/sys``."""
    place = root / "sys/dev/block" / mount.device
    if not place.exists() and mount.source.startswith("/dev/"):
        # Of btrfs and fuseblk the mount's own number is no disk's; /dev/mapper/x is a link to /dev/dm-0.
        name = os.path.realpath(root / mount.source.lstrip("/")).rpartition("/")[2]
        place = root / "sys/class/block" / name
    return place.resolve() if place.exists() else None


def _of_device(device: Path, mounts: Sequence[_Mount], root: Path, depth: int) -> Storage:
    if depth == 0:
        return Storage("unknown", f"{device.name} stands on too many others")
    if (device / "partition").exists():
        device = device.parent
    parts = sorted((device / "slaves").iterdir()) if (device / "slaves").is_dir() else []
    if parts:
        below = slowest([_of_device(part.resolve(), mounts, root, depth - 1) for part in parts])
        return Storage(below.kind, f"{below.why}, under {device.name}")
    backing = _text(device / "loop/backing_file")
    if backing:
        below = _of_path(backing, mounts, root, depth - 1)
        return Storage(below.kind, f"{below.why}, under {device.name}")
    return _of_disk(device)


def _of_disk(disk: Path) -> Storage:
    name = disk.name
    if _REMOTE_DISKS.match(name):
        return Storage("network", f"{name} is a disk of another machine")
    if _DISKS_IN_MEMORY.match(name):
        return Storage("memory", f"{name} lies in memory")
    turns = _text(disk / "queue/rotational")
    if turns == "0":
        return Storage("ssd", f"{name} does not turn")
    model = _text(disk / "device/model")
    if turns != "1" or _VIRTUAL_DISKS.match(name) or _VIRTUAL_MODELS.search(model):
        # virtio and its like say "rotational" whatever the host has.
        return Storage("unknown", f"{name} is a virtual disk" if turns == "1" else f"{name} does not say")
    return Storage("hdd", f"{name} turns")


def slowest(found: Sequence[Storage]) -> Storage:
    """The one that must be spared most: what lies on several is read as if all of it lay there."""
    return min(found, key=lambda storage: _SLOWEST_FIRST.index(storage.kind))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def storage_for(found: ImageLocation, wanted: str) -> Storage:
    """The storage of a file, or the one that ``--storage`` says it is."""
    if not isinstance(found, Path):
        return Storage(REMOTE, f"read through fsspec, {type(found[0]).__name__}")
    if wanted != "auto":
        return Storage(wanted, f"--storage {wanted}")
    return find_storage(found)
