"""Timing: interleaved repeats on a CPU, events and graphs on a GPU, the two ceilings, and a row's circumstances."""

import csv
import datetime
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

FIELDS = (  # noqa: SIM905
    "op,impl,form,pass,launch,batch,tokens,text_tokens,heads,width,rank,dtype,ms_p50,ms_p20,ms_p80,peak_mib,bytes,flops,"
    "copy_gb_s,matmul_tflop_s,share_of_copy,share_of_matmul,bound,ratio_p50,ratio_p20,ratio_p80,repeats,threads,device,"
    "torch,triton,commit,date,note"
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


def timed(call: Callable[[], object], device: str, graphed: bool = False) -> Times:
    """Return a call's time: on a GPU with a cold cache, replayed from a CUDA graph where `graphed` says so."""
    if device == "cpu":
        return quantiles(interleaved([call], 2)[0])
    import triton.testing

    measure = triton.testing.do_bench_cudagraph if graphed else triton.testing.do_bench
    found = measure(call, quantiles=[0.5, 0.2, 0.8])
    assert found is not None
    return Times(*found)


def peak_mib(call: Callable[[], object], device: str) -> float:
    """Return the most GPU memory that a call holds above what was there before, MiB; 0 on a CPU."""
    if device == "cpu":
        return 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


class Ceilings(NamedTuple):
    """What this machine reaches: bytes a second of a large copy, operations a second of a large matrix product."""

    copy: float
    matmul: float

    def columns(self) -> dict[str, float]:
        """Return both as a row's columns."""
        return {"copy_gb_s": round(self.copy / 1e9, 1), "matmul_tflop_s": round(self.matmul / 1e12, 3)}

    def shares(self, moved: int, flops: int, milliseconds: float) -> dict[str, Any]:
        """Return the shares of both that some work reached, and which of the two binds it."""
        least = {"memory": moved / self.copy, "compute": flops / self.matmul}
        copy, matmul = (1e3 * seconds / milliseconds for seconds in least.values())
        return {
            "share_of_copy": round(copy, 4),
            "share_of_matmul": round(matmul, 4),
            "bound": max(least, key=lambda kind: least[kind]),
        }


def ceilings(device: str, dtype: torch.dtype, mib: int, size: int) -> Ceilings:
    """Measure the two ceilings with random data: a copy of `mib` MiB, a product of two matrices of side `size`."""
    source = torch.randn(mib * 2**18, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / (1e-3 * timed(lambda: target.copy_(source), device).p50)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Ceilings(copy, 2 * size**3 / (1e-3 * timed(lambda: a @ b, device).p50))


def circumstances(device: str) -> dict[str, Any]:
    """Return what a row must say about the machine and the code."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    return {
        "device": name,
        "threads": 1 if device == "cpu" else torch.get_num_threads(),
        "torch": torch.__version__,
        "triton": installed("triton"),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def commit() -> str:
    """Return the short hash of the checkout that this file is in, or nothing where there is none, or no git."""
    if shutil.which("git") is None:
        return ""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def installed(name: str) -> str:
    """Return the version of a package, or nothing where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def append_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows to a CSV, with its header where the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer: csv.DictWriter[Any] = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow(row)
