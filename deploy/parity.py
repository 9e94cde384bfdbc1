"""The parity certificate: two segmenters of one model draw the same masks, within what a precision allows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .drawn import COUNT, SMALL, Case
from .metrics import dice
from .pixels import to_mask, to_probability
from .segmenter import Segmenter


@dataclass(frozen=True)
class Limit:
    """How far an engine may stray.

    Attributes:
        dice: least Dice (0..1) of any image between torch's mask and the engine's.
        flipped: largest share (0..1) of any image's pixels that change sides.
        deviation: largest |logit difference| / std(logit), which judges where masks say nothing.
        least: share of the area (0..1) below which two masks are judged by `flipped` alone: of a handful of pixels,
            Dice says nothing.
    """

    dice: float
    flipped: float
    deviation: float
    least: float = 0.0

    def dice_of(self, mask: np.ndarray, true: np.ndarray) -> float:
        """Return the Dice of two masks, bool (H, W), or 1 where both are too small for it."""
        return 1.0 if max(mask.mean(), true.mean()) < self.least else dice(mask, true)


_EIGHT = Limit(0.97, 1e-2, 0.5, least=1e-3)
LIMITS = {
    "fp32": Limit(0.999, 1e-4, 1e-3),
    "fp16": Limit(0.99, 2e-3, 0.05),
    **dict.fromkeys(("int8", "int8-fp16", "fp8"), _EIGHT),
}


def certify(reference: Segmenter, candidate: Segmenter, cases: Sequence[Case], trained: bool = True) -> dict[str, Any]:
    """Compare two segmenters of one manifest on `cases`; return numbers alone, `passed` among them.

    Masks judge. Random weights (`trained` False), and masks that are empty on every image, are judged by the logits.
    """
    if len(cases) < COUNT or 2 * sum(case.share < SMALL for case in cases) < len(cases):
        raise ValueError(f"{len(cases)} cases, expected at least {COUNT}, half of them below {SMALL:.0%} of the area")
    rows = [_compare(reference, candidate, case) for case in cases]
    limit = LIMITS[candidate.manifest.precision]
    figures = {
        "images": len(rows),
        "dice_min": min(row["dice"] for row in rows),
        "flipped_share": max(row["flipped"] for row in rows),
        "max_abs_logit": max(row["difference"] for row in rows),
        "deviation": max(row["difference"] for row in rows) / float(np.mean([row["std"] for row in rows])),
        "nonempty": sum(row["nonempty"] for row in rows),
    }
    by_mask = trained and figures["nonempty"] > 0
    masks = figures["dice_min"] >= limit.dice and figures["flipped_share"] <= limit.flipped
    passed = masks if by_mask else figures["deviation"] <= limit.deviation
    return {**figures, "judged_by": "masks" if by_mask else "logits", "limits": asdict(limit), "passed": bool(passed)}


def refusal(certificate: dict[str, Any], precision: str) -> str:
    """Return the sentence that refuses a bundle whose certificate did not pass."""
    limits = certificate["limits"]
    if certificate["judged_by"] == "logits":
        found = f"logits differ by {certificate['deviation']:.2g} of their spread, at most {limits['deviation']:g} is"
    else:
        found = (
            f"least Dice {certificate['dice_min']:.4f} and {certificate['flipped_share']:.3%} flipped, "
            f"at least {limits['dice']} and at most {limits['flipped']:.2%} are"
        )
    way_out = "export with --precision fp32" if precision != "fp32" else "update ONNX Runtime, or train longer"
    return f"the {precision} bundle does not agree with the model ({found} allowed), so nothing was written: {way_out}"


def _compare(reference: Segmenter, candidate: Segmenter, case: Case) -> dict[str, float]:
    expected, found = (one.logits(case.image, case.prompt) for one in (reference, candidate))
    threshold = candidate.manifest.threshold
    size = case.image.shape[:2]
    true, mask = (to_mask(to_probability(logits, *size), threshold) for logits in (expected, found))
    return {
        "dice": LIMITS[candidate.manifest.precision].dice_of(mask, true),
        "flipped": float((mask != true).mean()),
        "difference": float(np.abs(expected - found).max()),
        "std": float(expected.std()),
        "nonempty": float(true.any()),
    }
