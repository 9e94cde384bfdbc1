"""The resource report: registers, spills and shared memory of every variant, told by the assembler, no GPU needed."""

import csv
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import triton

from .compile import Compiled, Progress, check_architecture, compile_variant, strip_hidden
from .sites import plugin_variants, torch_variants
from .variants import ARCHITECTURES, SHARED_LIMIT, TORCH_ARCHITECTURES, Variant

FAMILIES = ((80,), (86, 87, 89), (90,), (100,), (110,), (120,))
"""Architectures for which Triton writes the same PTX, its target's name aside; the assembler's work still differs."""

TRITON_OPTIONS = ("--regAllocOptLevel=2",)
"""How Triton 3.9 has its own launches assembled."""

FEW = 16
"""Compiles that are done sooner here than by processes that first load torch and triton."""


class Task(NamedTuple):
    """One compile, and the architectures of its family that are assembled from it."""

    variant: Variant
    archs: tuple[int, ...]


def assembler(arch: int) -> Path:
    """Return the assembler that Triton bundles for an architecture."""
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return folder / ("ptxas-blackwell" if arch >= 100 else "ptxas")


def assemble(ptx: str, target: str, arch: int, options: tuple[str, ...] = ()) -> tuple[int, int]:
    """Return registers for each thread and bytes of spill stores and loads, or raise with the assembler's words."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        output = str(Path(folder) / "kernel.cubin")
        command = [str(assembler(arch)), "-v", *options, "--gpu-name", target, str(source), "-o", output]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    registers = re.search(r"Used (\d+) registers", done.stderr)
    if done.returncode or registers is None:
        raise RuntimeError(f"the assembler refuses PTX for {target}: {done.stderr.strip()}")
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    return int(registers.group(1)), sum(map(int, spills))


def retarget(compiled: Compiled, arch: int) -> tuple[str, str]:
    """Return the PTX for another architecture of the same family, and its target's name."""
    if arch == compiled.arch:
        return compiled.ptx, compiled.target
    target = f"sm_{arch}"
    return re.sub(r"(\.target )\w+", rf"\g<1>{target}", compiled.ptx), target


def report(compiled: Compiled, arch: int | None = None) -> dict[str, Any]:
    """Return one row of the report.

    A plugin is assembled as it is shipped, its hidden parameters stripped; the others with Triton's own options.
    """
    arch = compiled.arch if arch is None else arch
    variant = compiled.variant
    ptx, target = retarget(compiled, arch)
    shipped = variant.variant == "plugin"
    ptx = strip_hidden(ptx, compiled.metadata.name, len(variant.arguments)) if shipped else ptx
    registers, spilled = assemble(ptx, target, arch, () if shipped else TRITON_OPTIONS)
    row = {
        "kernel": variant.kernel,
        "variant": variant.variant,
        "dtype": variant.dtype,
        "arch": arch,
        "registers": registers,
        "spill_bytes": spilled,
        "shared_bytes": compiled.metadata.shared,
        "shape": variant.shape,
        "warps": variant.warps,
    }
    return row | {"passed": passes(row)}


def condensed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the most of everything for each kernel, kind of variant, dtype and architecture, `count` shapes each."""
    found: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        names = ("kernel", "variant", "dtype", "arch")
        most = found.setdefault(tuple(row[name] for name in names), {name: row[name] for name in names} | {"count": 0})
        most["count"] += 1
        for name in ("registers", "spill_bytes", "shared_bytes"):
            most[name] = max(most.get(name, 0), row[name])
    return list(found.values())


def write_condensed(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write `condensed` as a CSV, with the version of Triton, which brings both assemblers."""
    lines = [row | {"triton": triton.__version__} for row in condensed(rows)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def passes(row: dict[str, Any]) -> bool:
    """Return whether a row is within the gate: no spills, and for a plugin at most 48 KiB of shared memory."""
    return row["spill_bytes"] == 0 and (row["variant"] == "torch" or row["shared_bytes"] <= SHARED_LIMIT)


def tasks(archs: Iterable[int], variants: Iterable[Variant]) -> list[Task]:
    """Return what the gate asks for: plugins on every architecture, torch variants on 80, 89 and 90."""
    wanted, found = set(archs), []
    for variant in variants:
        asked = wanted if variant.variant == "plugin" else wanted & set(TORCH_ARCHITECTURES)
        groups = (tuple(arch for arch in family if arch in asked) for family in FAMILIES)
        found += [Task(variant, group) for group in groups if group]
    return found


def work(task: Task) -> list[dict[str, Any]]:
    """Return a task's rows: one compile, and one run of the assembler for each architecture."""
    compiled = compile_variant(task.variant, task.archs[0])
    return [report(compiled, arch) for arch in task.archs]


def check(
    archs: Iterable[int] = ARCHITECTURES,
    variants: Iterable[Variant] | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Return the report: {kernel, variant, dtype, arch, registers, spill_bytes, shared_bytes, shape, warps, passed}.

    Args:
        archs: compute capabilities without the dot.
        variants: what to report on; by default everything that the models use.
        progress: is told how many compiles are done, of how many.

    Raises:
        ValueError: an unknown architecture.
    """
    archs = [check_architecture(arch) for arch in archs]
    todo = tasks(archs, [*plugin_variants(), *torch_variants()] if variants is None else variants)
    found: list[list[dict[str, Any]]] = [[] for _ in todo]
    for done, (index, rows) in enumerate(_worked(todo), start=1):
        found[index] = rows
        if progress is not None:
            progress(done, len(todo))
    return sorted((row for rows in found for row in rows), key=lambda row: archs.index(row["arch"]))


def _worked(todo: list[Task]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield each task's number and rows as they are done, in as many processes as this one has cores."""
    cores = len(os.sched_getaffinity(0))
    if len(todo) <= FEW or cores == 1:
        yield from ((index, work(task)) for index, task in enumerate(todo))
        return
    with _pool(cores) as pool:
        numbers = {pool.submit(work, task): index for index, task in enumerate(todo)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()


@contextmanager
def _pool(cores: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes that share nothing with this one; what has not begun is dropped when an error ends it."""
    pool = ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
