"""What a bundle is made for: ONNX for every engine, or engines beside it that are built where it is exported."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..deploy import rtx
from ..deploy.engines import trt
from ..deploy.errors import EngineError, UserError
from ..deploy.manifest import Manifest
from ..deploy.rtx_plans import summary

TARGETS = ("onnx", "tensorrt", "tensorrt-rtx")


def check_target(target: str, architectures: Sequence[int] = (), precision: str = "fp32") -> None:
    """Refuse a target that is none, or cannot be had here, before anything long is done.

    Raises:
        UserError: no such target, compute capabilities where nothing is built, or one that the target does not know.
        EngineError: what builds its engines is not installed.
    """
    if target not in TARGETS:
        raise UserError(f"no target {target!r}; known: {', '.join(TARGETS)}")
    if target == "onnx":
        if architectures:
            raise UserError(
                "--arch says what is built for: it goes with --target tensorrt (kernels) or tensorrt-rtx (engines)"
            )
        return
    if target == "tensorrt":
        from .ptx import check_architectures

        return check_architectures(architectures)
    rtx.check_architectures(architectures, precision)
    if lacks := rtx.missing():
        raise EngineError(lacks)


def build_engines(
    target: str, folder: Path, manifest: Manifest, architectures: Sequence[int], tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Build what the target wants into a bundle that is being written; return a row for each engine.

    TensorRT's are built on the device, so that here only the operators' kernels go in.
    """
    if target == "onnx":
        return []
    if target == "tensorrt":
        from .ptx import pack_ptx

        pack_ptx(folder, [file for file in manifest.parts.values() if file], architectures, tell)
        return []
    from .rtx import add_engines

    return summary(add_engines(folder, manifest, architectures, tell))


def finish(target: str, bundle: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Build TensorRT's engines of a bundle that was written, where this machine can; return a row for each engine."""
    if target != "tensorrt":
        return []
    if lacks := trt.KIND.missing():
        tell(f"engines are built on the device, with `vlseg build` ({lacks})")
        return []
    from ..deploy.tensorrt.build import build

    return build(bundle, say=tell)["engines"]
