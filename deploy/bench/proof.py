"""No speed without parity: a bundle shows the certificate of its export, other engines draw what ONNX Runtime draws.

What is fast and wrong is not fast. The reference is the bundle's own ONNX on ONNX Runtime's CPU provider, which the
export held against torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..drawn import Case, draw_cases, with_prompts
from ..engines import ort
from ..errors import UserError
from ..manifest import Manifest
from ..parity import certify
from ..segmenter import Segmenter

REFERENCE = "onnxruntime"


def check_certificate(folder: Path, manifest: Manifest) -> None:
    """Refuse a bundle that never passed its export's proof.

    Raises:
        UserError: no certificate, or one that says no.
    """
    if manifest.parity.get("passed") is not True:
        found = "did not pass" if manifest.parity else "has no certificate of"
        raise UserError(
            f"{folder} {found} the parity of its export, and what may be wrong has no speed: export it again"
        )


def prove(
    folder: Path, candidates: Sequence[Segmenter], threads: int | None = None, adapter: str = ""
) -> list[dict[str, Any]]:
    """Return a certificate for each segmenter of one bundle, on drawn pictures; ONNX Runtime's own is the export's.

    `adapter` is which of several the segmenters answer with, empty where there is one for good.

    Where ONNX Runtime is not installed (a device with TensorRT alone), engines are judged when they are built.

    Raises:
        UserError: an engine whose masks are not the bundle's.
    """
    manifest = candidates[0].manifest
    check_certificate(folder, manifest)
    others = [one for one in candidates if one.engine != REFERENCE]
    if not others or ort.missing():
        return [manifest.parity for _ in candidates]
    with Segmenter.open(folder, REFERENCE, threads) as reference:
        if adapter:
            reference.use(adapter)
        cases = with_prompts(draw_cases(), manifest.fixed_prompts)
        found = {one.engine: compare(reference, one, cases) for one in others}
    return [found.get(one.engine, manifest.parity) for one in candidates]


def compare(reference: Segmenter, candidate: Segmenter, cases: Sequence[Case]) -> dict[str, Any]:
    """Return the certificate of one engine against another.

    Raises:
        UserError: it does not pass.
    """
    trained = candidate.manifest.parity.get("judged_by") != "logits"
    found = certify(reference, candidate, cases, trained)
    if not found["passed"]:
        raise UserError(
            f"{candidate.manifest.name} on {candidate.engine} is not timed: it does not draw what {reference.engine} "
            f"draws (least Dice {found['dice_min']:.4f}, {found['flipped_share']:.3%} flipped, logits differ by "
            f"{found['deviation']:.2g} of their spread): `vlseg doctor` names known faults, and another engine is safe"
        )
    return found
