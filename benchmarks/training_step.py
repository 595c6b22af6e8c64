"""Training steps of segmnv2, transformers and smp on the same batches: each in its own process, taking turns.

    python benchmarks/training_step.py --root data/VOCdevkit --steps 20

Without ``--root`` the images are generated; speeds do not depend on what is in them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from contenders import Ours, Peer, Smp, Transformers
from script import show_table

from segmnv2.benchmark.apart import apart
from segmnv2.benchmark.compare import Rate, check_count, interleave, paired_ratio
from segmnv2.benchmark.machine import describe_machine
from segmnv2.benchmark.result_table import Row, Table
from segmnv2.data.loader import Batch, training_loader
from segmnv2.data.sample import SegmentationDataset
from segmnv2.data.transforms import TrainTransform
from segmnv2.datasets.shapes import Shapes
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.errors import ConfigError
from segmnv2.tasks.processes import keep_freed_memory

OURS = "segmnv2"
MARKS = {"transformers": 1.8, "smp": 3.0}
"""How many times as fast as a peer segmnv2 is meant to be on a CPU."""

DISTINCT = 8
"""Batches held in memory; more steps go round them."""


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print its table; 0, or 2 with one message when an argument is at fault."""
    options = parse(arguments)
    return show_table(lambda: compare(options), options.json)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, metavar="DIR", help="VOCdevkit with real images; generated without it")
    parser.add_argument(
        "--crop", type=int, default=513, help="side of the crops; smp gets the next multiple of 8 below"
    )
    parser.add_argument("--batch", type=int, default=4, help="crops a step")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each, after --warm-up")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before that are not counted")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, help="of PyTorch; its own choice by default")
    parser.add_argument("--bf16", action="store_true", help="segmnv2 with bfloat16 autocast too, on a GPU")
    parser.add_argument("--compile", action="store_true", help="segmnv2 with torch.compile too (needs a C++ compiler)")
    parser.add_argument("--smp-stride-16", action="store_true", help="smp at our output stride too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the table with every measurement")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> Table:
    """Measure all contenders in one run.

    Raises:
        SegmnError: an argument is not possible, or the data are missing.
    """
    for name in ("crop", "batch", "steps"):
        check_count(f"--{name}", getattr(options, name))
    device = choose_device(options.device)
    if options.bf16 and device.type == "cpu":
        raise ConfigError("--bf16: CPUs compute wrong gradients in bfloat16 (docs/training.md); give --device cuda")
    if options.root is not None:
        VocSegmentation(options.root, "train")  # what is not there is reported before anyone starts
    with apart({name: (build_step, options, name) for name in contenders(options)}) as steps:
        seconds = interleave(steps, rounds=options.steps, warm_up=options.warm_up)
        memory = {name: step.finish() for name, step in steps.items()}
    rows, verdict = [], []
    for name, values in seconds.items():
        if name == OURS:
            rows.append(Row(name, Rate.of(options.batch, values)))
            continue
        if name.startswith(OURS):
            note = f"{paired_ratio(seconds[OURS], values)} times as fast as {OURS}"
        else:
            ratio = paired_ratio(values, seconds[OURS])
            note = f"{OURS} is {ratio} times as fast"
            if name in MARKS and device.type == "cpu":
                reached = "reached" if ratio.median >= MARKS[name] else "missed"
                verdict.append(f"{OURS} to {name}: {ratio.median:.2f}, mark {MARKS[name]:g}: {reached}.")
        rows.append(Row(name, Rate.of(options.batch, values), note))
    held = ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in memory.items() if megabytes is not None)
    environment = {
        **describe_machine(device.type),
        "device": device.type,
        "images": "VOC" if options.root else "generated",
        "batch": options.batch,
        "crop": options.crop,
        "steps": options.steps,
        "peak memory in MB": held or None,
    }
    return Table(tuple(rows), tuple(verdict), environment)


def choose_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"--device {name}: not here; give auto, cpu, or cuda where PyTorch finds a GPU")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def read_batches(root: Path | None, crop: int, batch: int, count: int) -> list[Batch]:
    """Return batches as `segmnv2 train` makes them, in memory."""
    dataset: SegmentationDataset = (
        VocSegmentation(root, "train") if root is not None else Shapes(batch * count, (max(crop, 16), max(crop, 16)))
    )
    loader = training_loader(dataset, TrainTransform(crop), batch_size=batch, seed=0)
    return list(islice(iter(loader), count))


def contenders(options: argparse.Namespace) -> list[str]:
    """Return who takes part, ours first."""
    variants = {f"{OURS}, bf16": options.bf16, f"{OURS}, compiled": options.compile}
    peers = {"transformers": True, "smp": True, "smp, stride 16": options.smp_stride_16}
    return [OURS, *(name for name, wanted in {**variants, **peers}.items() if wanted)]


def build_step(options: argparse.Namespace, name: str) -> Callable[[int], object]:
    """Return a contender's step, to be called with its number; everything it needs is in memory then."""
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    count = min(DISTINCT, options.warm_up + options.steps)
    batches = read_batches(options.root, options.crop, options.batch, count)
    if name.startswith(OURS):
        if device.type == "cpu":
            keep_freed_memory()  # as `segmnv2 train` does
        return partial(_call, Ours(device, bf16="bf16" in name, compiled="compiled" in name), batches)
    peer: Peer = (
        Transformers(device, options.crop) if name == "transformers" else Smp(device, 16 if "16" in name else 8)
    )
    return partial(_call, peer, [peer.prepare(batch) for batch in batches])


def _call(contender: Ours | Peer, batches: list[Batch], number: int) -> float:
    return contender.step(batches[number % len(batches)])


if __name__ == "__main__":
    sys.exit(main())
