"""One query of one path in a process of its own; prints how much its peak memory rose. Run by :mod:`benchmarks`."""

import json
import resource
import sys
from pathlib import Path

import torch

from benchmarks.workloads import WORKLOADS, Sides, synthetic_network


def rise(workload: str, backbone: str, side: int, path: str) -> int:
    """Bytes by which the peak of resident memory rises while a path (``naive`` or a dtype) encodes and answers."""
    torch.set_num_threads(2)
    sides = Sides(synthetic_network(backbone, side, statistics=False), WORKLOADS[workload], device="cpu")
    before = _peak()
    answer = sides.naive() if path == "naive" else sides.shipped(path)
    answer(0)
    return _peak() - before


def _peak() -> int:
    """Largest resident memory so far, in bytes; on Linux ``ru_maxrss`` would count from the parent's on."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    workload, backbone, side, path = sys.argv[1:]
    sys.stdout.write(json.dumps({"bytes": rise(workload, backbone, int(side), path)}))
