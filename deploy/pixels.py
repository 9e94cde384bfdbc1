"""What happens to a pixel, written once: from a file to the model's input, and from logits to a mask.

Training imports this file, so that a picture looks the same to the model there and in the field.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

from .errors import UserError
from .window import Window, apply_window

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever its name; others are read by code that few use, or by other programs."""
Pixels = np.ndarray | Image.Image
"""A picture: uint8 RGB (H, W, 3), or a Pillow image in RGB."""
_DEEP = ("I", "F")
_LOSSY = ("JPEG", "MPO", "WEBP")
_BAND = 1 << 17  # pixels of a band, 512 kB as float32
_PHOTOMETRIC = 262  # the TIFF tag: 0 is white at zero, 1 black at zero
_PREVIEWS = ("MPO",)  # a phone's: the picture first, previews after it


def read_image(path: Path | str, window: Window | None = None, frame: int | None = None) -> np.ndarray:
    """Return a picture as uint8 RGB (H, W, 3), turned upright as its EXIF says.

    Gray is repeated, palette and CMYK are converted, and alpha is dropped, not composited: a background would be
    invented colour. 16-bit and float pictures are gray; `window` (low, high) becomes 0 and 255, and None is their own
    minimum and maximum, since 12 bits in a 16-bit file would otherwise be black. `frame` chooses one of several.

    Raises:
        UserError: absent, empty, truncated, not a picture, of several frames without a choice, with NaN, above Pillow's
            size guard, or a window for a picture of 8 bits.
    """
    picture, frames = _open(path, frame)
    if frame is None and frames > 1:
        raise UserError(f"{path} holds {frames} frames, expected one picture: save the frame you mean")
    return np.array(_seen(picture, path, window))


def read_first(path: Path | str, window: Window | None = None) -> tuple[Image.Image, int]:
    """Return the first picture of a file, as a Pillow image in RGB, and how many it holds; the rest as `read_image`.

    What Pillow has decoded it can shrink without a copy in between.
    """
    picture, frames = _open(path)
    return _seen(picture, path, window), frames


def read_mask(path: Path | str) -> np.ndarray:
    """Return a mask as bool (H, W): True where its brightest channel is above 127, so that JPEG noise does no harm.

    A mask whose largest value is 1 is read as 0 / 1. The brightest channel is used so that a mask painted in red
    counts.

    Raises:
        UserError: as `read_image`; or a lossless mask whose largest value is 2 to 127, which looks like a map of
            labels.
    """
    picture, frames = _open(path)
    if frames > 1:
        raise UserError(f"{path} holds {frames} frames, expected one mask: save the frame you mean")
    values = _mask_values(picture, path)
    top = values.max()
    if top == 1:
        return values == 1
    if 1 < top <= 127 and picture.format not in _LOSSY:
        raise UserError(
            f"mask {path} has values up to {top:g}, expected 0 and 255 or 0 and 1: write one object class as 255"
        )
    return values > 127


def to_input(image: Pixels, size: int, mean: tuple[float, float, float], std: tuple[float, float, float]) -> np.ndarray:
    """Return the model's input, float32 (3, size, size), from uint8 RGB (H, W, 3) or the same as a Pillow image.

    Bilinear with antialiasing (Pillow), the aspect ignored, as CLIPSeg's own processor does; then
    (x / 255 - mean) / std.
    """
    check_image(image)
    whole = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    small = whole.resize((size, size), Image.Resampling.BILINEAR)
    scale = 1 / (255 * np.asarray(std, np.float64))
    shift = np.asarray(mean, np.float64) / np.asarray(std, np.float64)
    # Pillow gives each row's three channels one after the other, which is nearly planes already
    rows = np.frombuffer(small.tobytes("raw", "RGB;L"), np.uint8).reshape(size, 3, size)
    out = rows.transpose(1, 0, 2).astype(np.float32, order="C")
    out *= scale[:, None, None].astype(np.float32)
    out -= shift[:, None, None].astype(np.float32)
    return out


def check_image(image: Pixels) -> None:
    """Raise UserError unless a picture is uint8 (H, W, 3), or a Pillow image in RGB, with at least one pixel."""
    if isinstance(image, Image.Image):
        if image.mode != "RGB" or not image.width * image.height:
            raise UserError(f"image is {image.mode} of {image.size}, expected RGB: convert it")
    elif not isinstance(image, np.ndarray):
        raise UserError(f"image is {type(image).__name__}, expected uint8 (height, width, 3): read files by `read_any`")
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"image is {image.dtype} {image.shape}, expected uint8 (height, width, 3)")


def level_of(threshold: float | None, default: float) -> float:
    """Return the threshold that was asked for, None being `default`; UserError unless it is from 0 to 1."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold:g}: expected a probability from 0 to 1")
    return default if threshold is None else threshold


def shape_of(image: Pixels) -> tuple[int, int]:
    """Return height and width of a picture."""
    return image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)


def to_probability(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return probabilities, float32 (height, width) in 0..1, from logits (S, S): sigmoid, then bilinear resize.

    The sigmoid comes first: a probability is bounded, so one very sure pixel cannot drown its neighbours in the resize,
    and where the picture is smaller than the model's input the average is the share of the area that is the object.
    The threshold comes last, at the original size, where the mask is judged; it was chosen on validation in that order.
    """
    out = np.empty((height, width), np.float32)
    for rows, band in _bands(logits, height, width):
        out[rows] = band
    return out


def mask_of(logits: np.ndarray, height: int, width: int, threshold: float) -> np.ndarray:
    """Return the mask, bool (height, width), of logits (S, S): `to_mask` of `to_probability`, which is never whole.

    A probability of a large picture is four times its mask, and most of the time goes into its memory.
    """
    out = np.empty((height, width), bool)
    for rows, band in _bands(logits, height, width):
        np.greater(band, threshold, out=out[rows])
    return out


def to_mask(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Return the mask, bool (H, W): where the probability is above `threshold` (0..1)."""
    return probability > threshold


def _bands(logits: np.ndarray, height: int, width: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the probability in bands of rows that a cache holds, each with its place; read-only."""
    probability = 0.5 * np.tanh(0.5 * np.asarray(logits, np.float32)) + 0.5
    if probability.shape == (height, width):
        yield slice(None), probability
        return
    image = Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR)
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        rows = slice(top, min(height, top + step))
        yield rows, np.asarray(image if step >= height else image.crop((0, rows.start, width, rows.stop)))


def _seen(picture: Image.Image, path: Path | str, window: Window | None) -> Image.Image:
    """Return a decoded picture in RGB."""
    if picture.mode.startswith(_DEEP):
        values = _deep(picture, path)
        gray = apply_window(values, *(window or (values.min(), values.max())))
        return Image.fromarray(255 - gray if _white_is_zero(picture) else gray).convert("RGB")
    if window:
        raise UserError(f"{path} has 8 bits, and a window is for deeper gray pictures: leave the window out")
    return _to_rgb(picture, path)


def _white_is_zero(picture: Image.Image) -> bool:
    """Does a TIFF count its gray from white to black? Pillow turns that round up to 8 bits alone."""
    return getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _open(path: Path | str, frame: int | None = None) -> tuple[Image.Image, int]:
    """Open, decode and turn upright one frame, None being the first; return it with the count of frames."""
    with _reading(path), Image.open(path, formats=FORMATS) as picture:
        frames = 1 if picture.format in _PREVIEWS else getattr(picture, "n_frames", 1)
        if frame is not None and not 0 <= frame < frames:
            raise UserError(f"{path} has no frame {frame}: it holds {frames}, counted from 0")
        if frame:
            picture.seek(frame)
        _check_covered(picture)
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return picture, frames


def _check_covered(picture: ImageFile.ImageFile) -> None:
    """Refuse a TIFF whose strips or tiles end before the picture does: Pillow would leave the rest black."""
    if picture.format == "TIFF" and picture.tile:
        extents = [tile.extents or (0, 0, *picture.size) for tile in picture.tile]
        right, low = (max(extent[side] for extent in extents) for side in (2, 3))
        if right < picture.width or low < picture.height:
            raise OSError(f"it says {picture.width} x {picture.height} pixels and holds {right} x {low}")


def check_file(path: Path) -> None:
    """Raise UserError unless there is a file that holds something."""
    if not path.is_file():
        raise UserError(f"no image file {path}: check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes), expected an image: copy it again")


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Turn whatever Pillow says about a bad file into one sentence."""
    check_file(Path(path))
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit, twice = Image.MAX_IMAGE_PIXELS or 0, "twice " * isinstance(error, Image.DecompressionBombError)
        raise UserError(
            f"{path} is larger than {twice}Pillow's guard of {limit} pixels: cut it into several files, or shrink it"
        ) from error
    except PermissionError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): get the right to read it") from error
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        raise UserError(
            f"cannot read {path} as an image ({error}): it is damaged, or no image; save it again"
        ) from error


def _to_rgb(picture: Image.Image, path: Path | str) -> Image.Image:
    if picture.mode == "RGB":  # convert would copy it
        return picture
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")
    try:
        return picture.convert("RGB")
    except ValueError as error:
        raise UserError(f"{path} has colour mode {picture.mode}, which does not become RGB: save it as PNG") from error


def _mask_values(picture: Image.Image, path: Path | str) -> np.ndarray:
    """Return the gray values, or the brightest colour channel, (H, W)."""
    if picture.mode.startswith(_DEEP):
        return _deep(picture, path)
    if picture.mode in ("1", "L", "LA"):
        return np.asarray(picture.getchannel(0)).astype(np.uint8)
    return np.asarray(_to_rgb(picture, path)).max(axis=2)


def _deep(picture: Image.Image, path: Path | str) -> np.ndarray:
    """Return gray values of more than 8 bits as float64 (H, W)."""
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds NaN or infinite values, expected finite gray values: clean it first")
    return values
