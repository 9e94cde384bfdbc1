"""The resource report: registers, spills and shared memory of every variant, told by the assembler, no GPU needed."""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import triton

from .compile import Compiled, compile_variant, strip_hidden
from .variants import (
    ARCHITECTURES,
    SHARED_LIMIT,
    TORCH_ARCHITECTURES,
    Variant,
    plugin_variants,
    torch_variants,
)


def assembler(arch: int) -> Path:
    """Return the assembler that Triton bundles for an architecture."""
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return folder / ("ptxas-blackwell" if arch >= 100 else "ptxas")


def assemble(ptx: str, target: str, arch: int) -> tuple[int, int]:
    """Return registers for each thread and bytes of spill stores and loads, or raise with the assembler's words."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [
            str(assembler(arch)),
            "-v",
            "--gpu-name",
            target,
            str(source),
            "-o",
            str(Path(folder) / "kernel.cubin"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    registers = re.search(r"Used (\d+) registers", done.stderr)
    if done.returncode or registers is None:
        raise RuntimeError(f"the assembler refuses PTX for {target}: {done.stderr.strip()}")
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    return int(registers.group(1)), sum(map(int, spills))


def report(compiled: Compiled) -> dict[str, Any]:
    """Return one row of the report; a plugin is assembled as it is shipped, its hidden parameters stripped."""
    variant, ptx = compiled.variant, compiled.ptx
    if variant.variant == "plugin":
        ptx = strip_hidden(ptx, compiled.metadata.name, len(variant.arguments))
    registers, spilled = assemble(ptx, compiled.target, compiled.arch)
    row = {
        "kernel": variant.kernel.__name__,
        "variant": variant.variant,
        "dtype": variant.dtype,
        "arch": compiled.arch,
        "registers": registers,
        "spill_bytes": spilled,
        "shared_bytes": compiled.metadata.shared,
        "shape": variant.shape,
        "warps": variant.warps,
    }
    return row | {"passed": passes(row)}


def passes(row: dict[str, Any]) -> bool:
    """Return whether a row is within the gate: no spills, and for a plugin at most 48 KiB of shared memory."""
    return row["spill_bytes"] == 0 and (row["variant"] == "torch" or row["shared_bytes"] <= SHARED_LIMIT)


def selected(arch: int, variants: Iterable[Variant] | None) -> list[Variant]:
    """Return what the gate asks of an architecture: plugins everywhere, torch variants on 80, 89 and 90."""
    if variants is None:
        variants = [*plugin_variants(), *torch_variants()]
    return [v for v in variants if v.variant == "plugin" or arch in TORCH_ARCHITECTURES]


def check(archs: Iterable[int] = ARCHITECTURES, variants: Iterable[Variant] | None = None) -> list[dict[str, Any]]:
    """Return the report: {kernel, variant, dtype, arch, registers, spill_bytes, shared_bytes, shape, warps, passed}.

    Raises:
        ValueError: an unknown architecture.
    """
    archs = list(archs)
    unknown = [arch for arch in archs if arch not in ARCHITECTURES]
    if unknown:
        raise ValueError(f"arch is {unknown[0]}: expected one of {', '.join(map(str, ARCHITECTURES))}")
    variants = None if variants is None else list(variants)
    return [report(compile_variant(v, arch)) for arch in archs for v in selected(arch, variants)]
