"""A picture of what a run predicts on validation images; made of the user's data, so it stays in the run's folder."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..deploy import metrics
from ..deploy.annotations import Sample, choose_prompt, read_pair

TILE, LINE = 192, 14  # pixels
TRUTH, PREDICTION = (0, 200, 0), (230, 60, 60)


def prediction_sheet(
    segment: Callable[[np.ndarray, str], np.ndarray], samples: Sequence[Sample], prompt: str, rows: int = 8
) -> bytes:
    """Return a PNG: for each of the first samples the image, the true outline (green) and the predicted one (red).

    `segment` gives bool (H, W) for an image and a sentence; name, Dice and sentence stand above each row.
    """
    shown = samples[:rows]
    sheet = Image.new("RGB", (3 * TILE, len(shown) * (TILE + LINE)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, sample in enumerate(shown):
        image, true = read_pair(sample)
        text = choose_prompt(sample, prompt)
        pred = segment(image, text)
        top = row * (TILE + LINE)
        caption = f"{sample.name}  Dice {metrics.dice(pred, true):.3f}  {text}"
        draw.text((2, top + 1), caption.encode("ascii", "replace").decode(), fill="black")
        for column, tile in enumerate(
            (_tile(image), _outlined(image, true, TRUTH), _outlined(image, pred, PREDICTION))
        ):
            sheet.paste(tile, (column * TILE, top + LINE))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _tile(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BILINEAR)


def _outlined(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    small = np.asarray(Image.fromarray(mask).resize((TILE, TILE), Image.Resampling.NEAREST))
    tile = np.array(_tile(image))
    tile[outline(small)] = colour
    return Image.fromarray(tile)


def outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a bool mask (H, W) that have a neighbour outside it, the border counting as outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
