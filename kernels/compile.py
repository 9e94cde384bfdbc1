"""Ahead-of-time compile: PTX (and cubin where asked) and the facts of a launch; no GPU, no Triton at run time."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .launch import INTERPRETED
from .sites import plugin_variants
from .variants import ARCHITECTURES, Variant

FACTS = "kernels.json"
Progress = Callable[[int, int], None]

PTX_VERSIONS = {"12.6": 85, "13.0": 90, "13.2": 92}
"""The newest PTX that a driver of a CUDA version compiles: JetPack 6 has 12.6, JetPack 7 has 13.0 and up."""

OLD_ASSEMBLER = 88
"""The newest PTX that the older of Triton's two bundled assemblers takes; the newer one takes both."""

GRIDS = {
    "bottleneck_forward": ["cdiv(tokens, ROWS)", "batch", "cdiv(WIDTH, COLUMNS)"],
    "closed_forward": ["cdiv(WIDTH, BLOCK)", "cdiv(tokens, rows_per_share)", "batch"],
    "text_adapter": ["RANK", "batch", "1"],
    "pooling_query": ["HEADS * TOKENS", "batch", "1"],
    "pool_forward": ["blocks", "batch", "1"],
    "pooling_finish": ["TOKENS", "batch", "1"],
    "attend_forward": ["cdiv(query_count, ROWS)", "HEADS", "batch"],
}


@dataclass(frozen=True)
class Compiled:
    """One compiled variant: its PTX, cubin, entry name and what Triton says of it."""

    variant: Variant
    arch: int
    ptx: str
    cubin: bytes
    metadata: Any

    @property
    def target(self) -> str:
        """The architecture that the PTX names, such as sm_87 or sm_90a."""
        found = re.search(r"\.target (\w+)", self.ptx)
        assert found is not None
        return found.group(1)


def check_architecture(arch: int) -> int:
    """Return a compute capability that is known, or refuse it."""
    if arch not in ARCHITECTURES:
        raise ValueError(f"arch is {arch}: expected one of {', '.join(map(str, ARCHITECTURES))}")
    return arch


def check_ptx_version(version: int, arch: int) -> int:
    """Return a PTX version that has the architecture, or refuse it."""
    known = [one for one in PTX_VERSIONS.values() if one >= default_ptx_version(arch)]
    if version not in known:
        raise ValueError(f"the PTX version is {version}: expected one of {', '.join(map(str, known))} for sm_{arch}")
    return version


def default_ptx_version(arch: int) -> int:
    """Return the oldest instruction set in use for an architecture: CUDA 12.6 up to sm_90, CUDA 13.0 from sm_100 on."""
    return PTX_VERSIONS["12.6"] if arch <= 90 else PTX_VERSIONS["13.0"]


def compile_variant(variant: Variant, arch: int, ptx_version: int | None = None) -> Compiled:
    """Compile one variant for one architecture, such as 87.

    Pointers are declared 16-byte aligned, which TensorRT's and PyTorch's own allocations are.
    """
    if INTERPRETED:
        raise RuntimeError("this process interprets Triton (TRITON_INTERPRET=1): compile in one that does not")
    signature = variant.signature()
    aligned = [["tt.divisibility", 16]]
    attributes = {(i,): aligned for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(variant.function, signature, variant.bound(), attributes)
    options = {"num_warps": variant.warps, "num_stages": variant.stages, "enable_fp_fusion": True}
    options["ptx_version"] = version = default_ptx_version(arch) if ptx_version is None else ptx_version
    knobs = triton.knobs.nvidia  # pyright: ignore[reportAttributeAccessIssue]
    with knobs.scope():
        if version > OLD_ASSEMBLER and arch < 100:  # from there on Triton takes the newer one by itself
            knobs.ptxas = knobs.ptxas_blackwell.path
        compiled: Any = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    return Compiled(variant, arch, compiled.asm["ptx"], compiled.asm["cubin"], compiled.metadata)


def strip_hidden(ptx: str, entry: str, declared: int) -> str:
    """Return PTX without the scratch pointers that Triton appends to a kernel's `declared` parameters.

    TensorRT before 10.16 passes exactly what a plugin declares. Refuses PTX whose body reads a hidden parameter.
    """
    head = re.search(rf"(\.visible \.entry {re.escape(entry)}\()(.*?)(\n\))", ptx, re.DOTALL)
    if head is None:
        raise ValueError(f"the PTX has no entry {entry!r}")
    parameters = [p.strip() for p in head.group(2).strip().split(",\n")]
    body = ptx[head.end() :]
    for hidden in range(declared, len(parameters)):
        if re.search(rf"\b{re.escape(entry)}_param_{hidden}\b", body):
            raise ValueError(
                f"{entry} reads its hidden parameter {hidden}: it needs scratch memory, which a plugin has not"
            )
    kept = ",\n\t".join(parameters[:declared])
    return f"{ptx[: head.start(2)]}\n\t{kept}{ptx[head.end(2) :]}"


def facts(compiled: Compiled, ptx_version: int) -> dict[str, Any]:
    """Return what a launch needs: entry, files, threads, shared bytes, arguments in order, constants, grid."""
    variant = compiled.variant
    numbers = {k: v for k, v in variant.bound().items() if isinstance(v, (int, float, str)) and not isinstance(v, bool)}
    return {
        "operator": variant.operator,
        "entry": compiled.metadata.name,
        "variant": variant.variant,
        "dtype": variant.dtype,
        "shape": variant.shape,
        "arch": compiled.arch,
        "target": compiled.target,
        "ptx_version": ptx_version,
        "ptx": f"{variant.name}.ptx",
        "block_x": compiled.metadata.num_warps * 32,
        "shared_bytes": compiled.metadata.shared,
        "alignment": 16,
        "arguments": [
            {"name": name, "type": kind} for name, kind in variant.signature().items() if kind != "constexpr"
        ],
        "constants": numbers,
        "grid": GRIDS[compiled.metadata.name],
    }


def compile_all(
    arch: int,
    out: str | Path,
    ptx_version: int | None = None,
    *,
    cubin: bool = False,
    variants: Iterable[Variant] | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Write the PTX of every plugin variant for one architecture into the folder `out`, and return its facts.

    Args:
        arch: compute capability without the dot, such as 87.
        out: a folder that does not exist, is empty, or was written by this function; replaced whole.
        ptx_version: 85, 90 or 92, what the target's driver compiles; by default the oldest for the architecture.
        cubin: whether to write the machine code too.
        variants: what to compile; by default every plugin variant.
        progress: is told how many are done, of how many.

    Raises:
        ValueError: an unknown architecture or PTX version, or a folder that holds something else.
    """
    check_architecture(arch)
    version = default_ptx_version(arch) if ptx_version is None else check_ptx_version(ptx_version, arch)
    out = Path(out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / FACTS).exists())):
        raise ValueError(f"{out} exists and holds no {FACTS}: give a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as fresh:
        folder = Path(fresh) / out.name
        folder.mkdir()
        rows, wanted = [], list(variants or plugin_variants())
        for done, variant in enumerate(wanted, start=1):
            rows.append(_write(compile_variant(variant, arch, version), folder, version, cubin))
            if progress is not None:
                progress(done, len(wanted))
        (folder / FACTS).write_text(json.dumps(rows, indent=1) + "\n")
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return rows


def _write(compiled: Compiled, folder: Path, ptx_version: int, cubin: bool) -> dict[str, Any]:
    """Write one variant's files and return its facts."""
    row = facts(compiled, ptx_version)
    (folder / row["ptx"]).write_text(strip_hidden(compiled.ptx, row["entry"], len(row["arguments"])))
    if cubin:
        row["cubin"] = str(Path(row["ptx"]).with_suffix(".cubin"))
        (folder / row["cubin"]).write_bytes(compiled.cubin)
    return row
