"""Several processes on the CPU, as ``torchrun`` starts them, against one."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rtseg.errors import OptionError
from rtseg.training.checkpoint import load_checkpoint
from rtseg.training.distributed import DistributedContext

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240

NORM = """
import torch, torch.distributed as dist
from torch import nn
from rtseg.training.distributed import join_process_group, sync_batch_norm

torch.manual_seed(0)
whole = torch.randn(4, 3, 5, 7) * 3 + 1
wanted = torch.randn(4, 3, 5, 7)
single, split = nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3))
with torch.no_grad():
    for norm in (single, split[0]):
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
everything = whole.clone().requires_grad_()
(single(everything) * wanted).sum().backward()
with join_process_group("cpu") as context:
    sync_batch_norm(split, context.device)
    part = slice(2 * context.rank, 2 * context.rank + 2)
    mine = whole[part].clone().requires_grad_()
    out = split(mine)
    torch.testing.assert_close(out, single(whole)[part])
    (out * wanted[part]).sum().backward()
    torch.testing.assert_close(mine.grad, everything.grad[part], rtol=1e-4, atol=1e-5)
    for got, all_of_it in ((split[0].weight.grad, single.weight.grad), (split[0].bias.grad, single.bias.grad)):
        dist.all_reduce(got)
        torch.testing.assert_close(got, all_of_it, rtol=1e-4, atol=1e-5)
    single.reset_running_stats()
    single(whole)
    torch.testing.assert_close(split[0].running_mean, single.running_mean)
    torch.testing.assert_close(split[0].running_var, single.running_var)
    split.eval(), single.eval()
    torch.testing.assert_close(split(whole), single(whole))
    assert context.broadcast(context.rank) == 0
    assert float(context.mean(torch.tensor(float(context.rank)))) == 0.5
    print("agreed", flush=True)
"""


def torchrun(count: int, *command: str) -> str:
    """What ``count`` processes print that run ``command`` together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    facts = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | facts | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(ROOT)},
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=TIMEOUT_S)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count, "\n".join(said)
    return "".join(said)


def test_batch_norm_over_two_processes_is_that_over_the_whole_batch() -> None:
    assert torchrun(2, "-c", NORM).count("agreed") == 2


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    recipe = shlex.split(
        "-m rtseg train --data synthetic:street,frames=8 --model icnet:width=4 --size 64x96 --crop 64x96 --batch 4 "
        "--epochs 2 --eval-every 1 --amp none --workers 0 --device cpu --output"
    )
    torchrun(1, *recipe, str(tmp_path / "one"))
    said = torchrun(2, *recipe, str(tmp_path / "two"))
    assert said.count("best validation mIoU") == 1, "one of them speaks"
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 2
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=2e-3)
        assert together["lr"] == alone["lr"]
    weights = [load_checkpoint(tmp_path / name / "last.safetensors")["raw_network"] for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    assert "fuse_low.coarse.1.running_var" in weights[0]
    assert two[0]["loss"] != two[1]["loss"]


class TestShare:
    def test_a_batch_is_split_evenly(self) -> None:
        assert DistributedContext(0, 4, torch.device("cpu")).batch_per_process(8) == 2

    def test_a_batch_that_cannot_be_split_is_refused(self) -> None:
        with pytest.raises(OptionError, match="--batch 8 cannot be split between 3 processes: give a multiple"):
            DistributedContext(0, 3, torch.device("cpu")).batch_per_process(8)

    def test_one_process_alone_wraps_and_averages_nothing(self) -> None:
        alone, module, value = DistributedContext(0, 1, torch.device("cpu")), nn.Identity(), torch.tensor(3.0)
        assert alone.wrap(module) is module
        assert alone.mean(value) is value
        assert alone.broadcast(5) == 5
