"""Timing: interleaved repeats on a CPU, events and graphs on a GPU, the two ceilings, and a row's circumstances."""

import csv
import datetime
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

FIELDS = (  # noqa: SIM905
    "op,impl,form,pass,launch,batch,tokens,text_tokens,heads,width,rank,dtype,ms_p50,ms_p20,ms_p80,peak_mib,bytes,flops,"
    "share_of_copy,share_of_matmul,ratio_p50,ratio_p20,ratio_p80,repeats,threads,device,torch,triton,commit,date,note"
).split(",")


class Times(NamedTuple):
    """Quantiles of one call's milliseconds."""

    p50: float
    p20: float
    p80: float


def quantiles(values: Sequence[float]) -> Times:
    """Return median, 20th and 80th percentile."""
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return Times(statistics.median(values), cuts[1], cuts[7])


def interleaved(calls: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Return this thread's CPU milliseconds of each call, taken in turns so that a busy machine slows all alike.

    CPU time of one thread leaves out what other processes take; PyTorch must run on one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _in_turns(calls, repeats)
    finally:
        torch.set_num_threads(threads)


def _in_turns(calls: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Return the milliseconds of each call in each round, after one round that is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for index, call in enumerate(calls):
            start = time.thread_time()
            call()
            times[index].append(1e3 * (time.thread_time() - start))
    return times


def on_gpu(call: Callable[[], object], graphed: bool) -> Times:
    """Return a call's time on the GPU, cold cache; replayed from a CUDA graph where `graphed` says so."""
    import triton.testing

    measure = triton.testing.do_bench_cudagraph if graphed else triton.testing.do_bench
    found = measure(call, quantiles=[0.5, 0.2, 0.8])
    assert found is not None
    return Times(*found)


def peak_mib(call: Callable[[], object]) -> float:
    """Return the most GPU memory that a call holds above what was there before, MiB."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


class Ceilings(NamedTuple):
    """What this GPU reaches: bytes a second of a large copy, operations a second of a large fp16 matrix product."""

    copy: float
    matmul: float


def ceilings(mib: int = 1024, size: int = 8192) -> Ceilings:
    """Measure the two ceilings with random data; `mib` is the size of the copy, `size` the side of the matrices."""
    source = torch.randn(mib * 2**18, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / (1e-3 * on_gpu(lambda: target.copy_(source), False).p50)
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
    return Ceilings(copy, 2 * size**3 / (1e-3 * on_gpu(lambda: a @ b, False).p50))


def circumstances(device: str) -> dict[str, Any]:
    """Return what a row must say about the machine and the code."""
    try:
        import triton

        triton_version = triton.__version__
    except ModuleNotFoundError:
        triton_version = ""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    ).stdout.strip()
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    return {
        "device": name,
        "threads": 1 if device == "cpu" else torch.get_num_threads(),
        "torch": torch.__version__,
        "triton": triton_version,
        "commit": commit,
        "date": datetime.date.today().isoformat(),
    }


def append_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows to a CSV, with its header where the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer: csv.DictWriter[Any] = csv.DictWriter(file, FIELDS, restval="")
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow(row)
