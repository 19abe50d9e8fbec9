"""Find out what kind of storage a path is on: a hard disk, an SSD, another machine, or memory.

Linux only: the mount is looked up in ``/proc/self/mountinfo``, its device in ``/sys``. Nothing on the mount itself is
opened, so a mount that hangs can only block while the path is resolved.
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
"""``ssd``: no moving parts. ``hdd``: a rotating disk. ``network``: a mount of another machine. ``memory``: tmpfs and
similar. ``unknown``: the kernel does not say, or is known to be wrong (disks of virtual machines)."""
REMOTE = "remote"
"""The kind of everything that fsspec reads, such as object stores and web servers: far away, but many files at once."""
_SLOWEST_FIRST = ("hdd", "network", "unknown", "ssd", "memory")
_NETWORK = re.compile(
    "9p|afs|beegfs|ceph|cifs|coda|glusterfs|gpfs|lustre|nfs4?|orangefs|smb3|smbfs|"
    r"fuse\.(ceph-fuse|gcsfuse|glusterfs|goofys|juicefs|mount-s3|rclone|s3fs|sshfs)"
)
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_REMOTE_DISKS = re.compile(r"nbd|rbd|drbd")
_DISKS_IN_MEMORY = re.compile(r"zram|ram|pmem")
_VIRTUAL_DISKS = re.compile(r"vd|xvd")
_VIRTUAL_MODELS = re.compile(r"QEMU|VBOX|VMware|Virtual|PersistentDisk|BHYVE", re.IGNORECASE)
_MAX_DEPTH = 8
"""Limit for loop devices on overlays on encrypted RAIDs and so on: more layers mean a cycle."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The storage of a path."""

    kind: str
    """One of ``KINDS``, or ``REMOTE``."""
    why: str
    """How the kind is known, in a few words: ``sda is rotational, ext4 on /data``."""
    device: str | None = field(default=None, compare=False)
    """``major:minor`` of the mount, as in ``st_dev`` of its files; None if the mount is unknown."""


@dataclass(frozen=True, slots=True)
class _Mount:
    point: str
    device: str
    """``major:minor``; the major number is 0 if it is no block device (btrfs, overlay, tmpfs, network)."""
    kind: str
    source: str
    options: str


def storage_for(location: ImageLocation, option: str) -> Storage:
    """Return the storage of an image.

    Args:
        location: where the image is.
        option: value of ``--storage``: ``auto``, or a kind that is taken as given for local files.
    """
    if not isinstance(location, Path):
        return Storage(REMOTE, f"read through fsspec, {type(location[0]).__name__}")
    if option != "auto":
        return Storage(option, f"--storage {option}")
    return find_storage(location)


def slowest(storages: Sequence[Storage]) -> Storage:
    """Return the slowest storage: files that are on several storages are read as if all were on that one."""
    return min(storages, key=lambda storage: _SLOWEST_FIRST.index(storage.kind))


def find_storage(path: str | Path, *, root: Path = Path("/")) -> Storage:
    """Find the storage of ``path``, which need not exist. RAIDs and volumes count as their slowest disk.

    Args:
        path: a file or folder.
        root: folder with ``proc`` and ``sys``, for tests.
    """
    try:
        mounts = _read_mounts((root / "proc/self/mountinfo").read_text())
    except OSError:
        return Storage("unknown", "the system has no /proc/self/mountinfo")
    real = os.path.realpath(path)
    mount = _mount_of(real, mounts)
    return replace(_storage_of_path(real, mounts, root, _MAX_DEPTH), device=mount.device if mount else None)


def _read_mounts(text: str) -> list[_Mount]:
    """Source: proc_pid_mountinfo(5). Spaces within a field are written as octal escapes."""
    mounts = []
    for line in text.splitlines():
        fields = [re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) for field in line.split(" ")]
        end = fields.index("-")
        mounts.append(_Mount(fields[4], fields[2], fields[end + 1], fields[end + 2], fields[-1]))
    return mounts


def _mount_of(path: str, mounts: Sequence[_Mount]) -> _Mount | None:
    parents = [mount for mount in mounts if f"{path}/".startswith(mount.point.rstrip("/") + "/")]
    # If several mounts have the same mount point, the last one hides the others.
    deepest = max(enumerate(parents), key=lambda entry: (len(entry[1].point), entry[0]), default=None)
    return deepest[1] if deepest else None


def _storage_of_path(path: str, mounts: Sequence[_Mount], root: Path, depth: int) -> Storage:
    mount = _mount_of(path, mounts)
    if mount is None or depth == 0:
        return Storage("unknown", f"no mount is known for {path}")
    description = f"{mount.kind} on {mount.point}"
    if _NETWORK.fullmatch(mount.kind):
        return Storage("network", description)
    if mount.kind in _MEMORY:
        return Storage("memory", description)
    if mount.kind == "overlay":
        return _storage_of_overlay(mount, mounts, root, depth)
    device = _block_device(mount, root)
    if device is None:
        return Storage("unknown", f"{description}: no disk is known for it")
    below = _storage_of_device(device, mounts, root, depth)
    return Storage(below.kind, f"{below.why}, {description}")


def _storage_of_overlay(mount: _Mount, mounts: Sequence[_Mount], root: Path, depth: int) -> Storage:
    """An overlay is on the storage of its layers, which may be invisible inside a container."""
    options = re.findall(r"(?:upperdir|lowerdir)=([^,]+)", mount.options)
    layers = [layer for option in options for layer in option.split(":") if layer.startswith("/")]
    others = [other for other in mounts if other is not mount]
    visible = [layer for layer in layers if (root / layer.lstrip("/")).exists()]
    if not visible:
        return Storage("unknown", f"overlay on {mount.point}, whose layers are not visible from here")
    below = slowest([_storage_of_path(layer, others, root, depth - 1) for layer in visible])
    return Storage(below.kind, f"{below.why}, under overlay on {mount.point}")


def _block_device(mount: _Mount, root: Path) -> Path | None:
    """The folder of the mount's device in ``/sys``."""
    folder = root / "sys/dev/block" / mount.device
    if not folder.exists() and mount.source.startswith("/dev/"):
        # The device number of btrfs and fuseblk belongs to no disk; /dev/mapper/x is a link to /dev/dm-0.
        name = os.path.realpath(root / mount.source.lstrip("/")).rpartition("/")[2]
        folder = root / "sys/class/block" / name
    return folder.resolve() if folder.exists() else None


def _storage_of_device(device: Path, mounts: Sequence[_Mount], root: Path, depth: int) -> Storage:
    if depth == 0:
        return Storage("unknown", f"{device.name} depends on too many other devices")
    if (device / "partition").exists():
        device = device.parent
    parts = sorted((device / "slaves").iterdir()) if (device / "slaves").is_dir() else []
    backing_file = _read_text(device / "loop/backing_file")
    if parts:
        below = slowest([_storage_of_device(part.resolve(), mounts, root, depth - 1) for part in parts])
    elif backing_file:
        below = _storage_of_path(backing_file, mounts, root, depth - 1)
    else:
        return _storage_of_disk(device)
    return Storage(below.kind, f"{below.why}, under {device.name}")


def _storage_of_disk(disk: Path) -> Storage:
    name = disk.name
    if _REMOTE_DISKS.match(name):
        return Storage("network", f"{name} is a disk of another machine")
    if _DISKS_IN_MEMORY.match(name):
        return Storage("memory", f"{name} is in memory")
    rotational = _read_text(disk / "queue/rotational")
    if rotational == "0":
        return Storage("ssd", f"{name} is not rotational")
    if rotational != "1":
        return Storage("unknown", f"{name} does not say whether it is rotational")
    if _VIRTUAL_DISKS.match(name) or _VIRTUAL_MODELS.search(_read_text(disk / "device/model")):
        # virtio and similar drivers say "rotational" whatever the host uses.
        return Storage("unknown", f"{name} is a virtual disk")
    return Storage("hdd", f"{name} is rotational")


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
