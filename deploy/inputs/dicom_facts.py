"""What a DICOM file says about its values and its scale, wherever it says it: on top, or in functional groups."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..window import Window

_CENTIMETRES = 3  # PhysicalUnitsXDirection, PS3.3 C.8.5.5.1.15


class Voi(NamedTuple):
    """A window as the file writes it, with its function: LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1.2-3)."""

    centre: float
    width: float
    function: str

    def limits(self) -> Window:
        """Return the (low, high) that become black and white; for SIGMOID, where its straight middle would."""
        if self.function != "LINEAR":
            return self.centre - self.width / 2, self.centre + self.width / 2
        half = (self.width - 1) / 2
        low = self.centre - 0.5 - half
        return low, max(self.centre - 0.5 + half, float(np.nextafter(low, np.inf)))


def spacing_of(data: Any, index: int = 0) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return millimetres per row and per column, and what to know about them; None where the file does not say.

    In this order: PixelSpacing, on top or of the frame; the only ultrasound region, measured in centimetres both ways;
    the spacing at the detector of a projection radiograph.
    """
    if found := _pair(data.get("PixelSpacing")):
        return found, ()
    for measures in _grouped(data, index, "PixelMeasuresSequence"):
        if found := _pair(measures.get("PixelSpacing")):
            return found, ()
    if found := _ultrasound(data):
        return found, ()
    if found := _pair(data.get("ImagerPixelSpacing")):
        return found, ("its spacing holds at the detector: what lies nearer to the source is smaller than it says",)
    return None, ()


def voi_of(data: Any, index: int = 0) -> Voi | None:
    """Return the file's first window, of the frame where it has its own; None where there is none."""
    for one in (data, *_grouped(data, index, "FrameVOILUTSequence")):
        centre, width = _first(one.get("WindowCenter")), _first(one.get("WindowWidth"))
        if centre is not None and width is not None and width >= 1e-9:
            return Voi(centre, width, str(one.get("VOILUTFunction") or "LINEAR"))
    return None


def rescale_of(data: Any, index: int = 0) -> tuple[float, float] | None:
    """Return slope and intercept of a functional group, which pydicom's modality LUT does not look at, or None."""
    for one in _grouped(data, index, "PixelValueTransformationSequence"):
        slope, intercept = _first(one.get("RescaleSlope")), _first(one.get("RescaleIntercept"))
        if slope is not None and intercept is not None:
            return slope, intercept
    return None


def _grouped(data: Any, index: int, name: str) -> Iterator[Any]:
    """Yield the items of a sequence in the functional groups: of the frame, then shared."""
    frames = data.get("PerFrameFunctionalGroupsSequence") or []
    for group in (*frames[index : index + 1], *(data.get("SharedFunctionalGroupsSequence") or [])):
        yield from group.get(name) or []


def _ultrasound(data: Any) -> tuple[float, float] | None:
    regions = data.get("SequenceOfUltrasoundRegions") or []
    if len(regions) != 1:
        return None
    units = [regions[0].get(f"PhysicalUnits{axis}Direction") for axis in "YX"]
    deltas = [regions[0].get(f"PhysicalDelta{axis}") for axis in "YX"]
    if units != [_CENTIMETRES] * 2 or None in deltas:
        return None
    return _pair([abs(float(delta)) * 10 for delta in deltas])


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None or isinstance(value, str) or len(value) != 2:
        return None
    rows, columns = float(value[0]), float(value[1])
    return (rows, columns) if rows > 0 and columns > 0 and np.isfinite([rows, columns]).all() else None


def _first(value: Any) -> float | None:
    """Return the first of one value or several, or None."""
    values = [value] if isinstance(value, str | float | int) else list(value or [])
    return float(values[0]) if values and values[0] != "" else None
