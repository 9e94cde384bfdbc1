"""Pictures to try the page on: soft blobs on uneven grounds, drawn here, and microscopy that anybody may use."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 352
NUCLEI = Path(__file__).parent / "nuclei"
# of the 2018 Data Science Bowl, public domain (nuclei/SOURCE.txt)
NUCLEI_PROMPTS = {
    "stained": "nuclei in a purple-stained histology image",
    "large": "nuclei in a purple-stained histology image",
    "fluorescent": "nuclei in a fluorescence image",
    "crowded": "nuclei in a fluorescence image",
}
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Blob:
    """A soft ellipse: centre and half axes as fractions of the side, turn in radians, colour 0 to 1."""

    center: tuple[float, float]
    axes: tuple[float, float]
    turn: float
    colour: Colour


@dataclass(frozen=True)
class Scene:
    """A drawn picture and a prompt that names the first `named` of its blobs.

    `noun` is what they are called, `speckle` the ground's grain (0 to 1), `bundle` as in `Example`.
    """

    name: str
    prompt: str
    noun: str
    ground: Colour
    blobs: tuple[Blob, ...]
    named: int = 1
    speckle: float = 0.0
    bundle: str = ""


@dataclass(frozen=True)
class Example:
    """A picture to try.

    Attributes:
        name: what the page calls it.
        file: the picture's path.
        prompt: a sentence that names something in it.
        noun: what that is, in a word or two.
        bundle: the one that was made for such pictures; "" is the page's first.
        mask: path of the true mask, where there is one.
    """

    name: str
    file: str
    prompt: str
    noun: str
    bundle: str = ""
    mask: str | None = None


YELLOW, RED, PURPLE = (0.95, 0.88, 0.25), (0.80, 0.10, 0.10), (0.48, 0.20, 0.66)
WHITE, BROWN, TEAL = (0.97, 0.97, 0.98), (0.44, 0.26, 0.13), (0.11, 0.35, 0.33)
SCENES = (
    Scene(
        "mucosa",
        "one medium white round polyp, located in left of the image",
        "polyp",
        (0.70, 0.40, 0.36),
        (
            Blob((0.24, 0.50), (0.125, 0.118), 0.0, WHITE),
            Blob((0.74, 0.26), (0.120, 0.115), 0.4, WHITE),
            Blob((0.66, 0.74), (0.130, 0.120), 1.0, YELLOW),
        ),
    ),
    Scene(
        "clinic",
        "one large oval lesion, located in right of the image",
        "lesion",
        (0.20, 0.62, 0.58),
        (
            Blob((0.71, 0.53), (0.215, 0.125), 0.6, TEAL),
            Blob((0.25, 0.25), (0.075, 0.072), 0.0, YELLOW),
            Blob((0.33, 0.78), (0.095, 0.055), 2.4, WHITE),
        ),
        speckle=0.55,
        bundle="clinic",
    ),
    Scene(
        "slide",
        "many small purple round nuclei",
        "nuclei",
        (0.90, 0.82, 0.86),
        tuple(
            Blob((x + 0.04 * np.sin(9 * y), y + 0.03 * np.cos(7 * x)), (0.062, 0.058), x, PURPLE)
            for x in (0.2, 0.5, 0.8)
            for y in (0.2, 0.5, 0.8)
        ),
        named=9,
    ),
    Scene(
        "skin",
        "one large brown oval lesion, located in center of the image",
        "lesion",
        (0.86, 0.68, 0.56),
        (Blob((0.50, 0.51), (0.25, 0.14), 0.5, BROWN), Blob((0.16, 0.16), (0.075, 0.072), 0.0, RED)),
    ),
)


def write_examples(folder: Path) -> list[Example]:
    """Draw every scene into `folder`, copy the pictures of nuclei to them, and return all."""
    drawn = []
    for seed, scene in enumerate(SCENES):
        path, mask = folder / f"{scene.name}.png", folder / f"{scene.name}-mask.png"
        Image.fromarray(draw(scene, seed)).save(path)
        Image.fromarray(truth(scene)).save(mask)
        drawn.append(Example(scene.name, str(path), scene.prompt, scene.noun, scene.bundle, str(mask)))
    return drawn + [_nuclei(folder, name, prompt) for name, prompt in NUCLEI_PROMPTS.items()]


def _nuclei(folder: Path, name: str, prompt: str) -> Example:
    """Copy a picture of nuclei to the page's own files, since no other is served."""
    picture, mask = (shutil.copy(NUCLEI / file, folder) for file in (f"{name}.jpg", f"{name}-mask.png"))
    return Example(f"nuclei, {name}", str(picture), prompt, "nuclei", "nuclei", str(mask))


def draw(scene: Scene, seed: int = 0) -> np.ndarray:
    """Return a scene as uint8 (352, 352, 3), a function of `seed`."""
    rng = np.random.default_rng(seed)
    rough = 0.035 * _clouds(rng, 6) + 0.02 * _clouds(rng, 40)
    canvas = np.asarray(scene.ground, np.float32) + rough[..., None]
    canvas *= _speckle(rng, scene.speckle)[..., None]
    for blob in scene.blobs:
        grain = 1 + 0.04 * _clouds(rng, 24 if not scene.speckle else 176)
        canvas += _opacity(blob)[..., None] * (np.asarray(blob.colour, np.float32) * grain[..., None] - canvas)
    return (np.clip(canvas * _light()[..., None], 0, 1) * 255 + 0.5).astype(np.uint8)


def truth(scene: Scene) -> np.ndarray:
    """Return what the scene's prompt names, uint8 (352, 352), 0 and 255."""
    covered = np.max([_opacity(blob) for blob in scene.blobs[: scene.named]], axis=0)
    return (covered > 0.5).astype(np.uint8) * 255


def _clouds(rng: np.random.Generator, grid: int) -> np.ndarray:
    """Smooth noise of about unit variance, float32 (352, 352), `grid` cells wide."""
    coarse = Image.fromarray(rng.normal(0, 1, (grid, grid)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _speckle(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Multiplicative noise of mean 1, coarse as that of an ultrasound, float32 (352, 352)."""
    if not strength:
        return np.ones((SIZE, SIZE), np.float32)
    coarse = Image.fromarray(rng.gamma(1 / strength**2, strength**2, (73, 73)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _opacity(blob: Blob) -> np.ndarray:
    """How much of each pixel the blob covers, float32 (352, 352), with an edge of about six pixels."""
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    x, y = axis[None] - blob.center[0], axis[:, None] - blob.center[1]
    along = (np.cos(blob.turn) * x + np.sin(blob.turn) * y) / blob.axes[0]
    across = (np.cos(blob.turn) * y - np.sin(blob.turn) * x) / blob.axes[1]
    inside = (1 - np.hypot(along, across)) * min(blob.axes)
    return np.clip(inside * SIZE / 6 + 0.5, 0, 1)


def _light() -> np.ndarray:
    """Brighter at the upper left, darker in the corners, float32 (352, 352)."""
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    x, y = axis[None], axis[:, None]
    return 1 - 0.06 * (x + y) - 0.12 * (x * x + y * y)
