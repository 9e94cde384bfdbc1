"""The runtime: a picture and a sentence in, a mask out.

The picture is encoded once, and asked as often as one likes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType

import numpy as np

from . import pixels
from .cache import Cache
from .engine import AUTO, Engine, open_engines
from .errors import BundleError, EngineError, UserError
from .manifest import FIXED_TEXT, Manifest
from .words import Tokenizer


@dataclass
class Timings:
    """Milliseconds that one call spent in each stage; a stage answered from the cache costs 0.

    Reading and decoding the file is not in it: that happens before the call.
    """

    preprocess: float = 0.0
    image: float = 0.0
    text: float = 0.0
    decoder: float = 0.0
    postprocess: float = 0.0

    @property
    def total(self) -> float:
        """Return the sum of the stages."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Result:
    """One answer.

    Attributes:
        probability: float32 (H, W), 0..1, at the size of the picture.
        mask: bool (H, W), where the probability is above the threshold.
        timings: where the time went.
    """

    probability: np.ndarray
    mask: np.ndarray
    timings: Timings


class Segmenter:
    """A model that is ready to be asked; safe to call from several threads.

    Image embeddings are kept by a hash of the picture's bytes, text embeddings by the prompt, both bounded and in
    memory
    only: neither pictures nor prompts are written anywhere.

    Attributes:
        manifest: the bundle's (or run's) description.
        engine: name of the engine in use.
    """

    def __init__(
        self,
        manifest: Manifest,
        engines: dict[str, Engine],
        tokenizer: Tokenizer | None,
        fixed_text: np.ndarray | None = None,
        images: int = 8,
        texts: int = 256,
    ):
        """Put the parts together; `fixed_text` is float32 (n, 2, R), one row for each of the manifest's fixed prompts.

        `images` and `texts` bound the two caches, in entries.
        """
        if manifest.text_depends_on_image:
            raise BundleError(
                f"{manifest.name} has text that depends on the image, which this vlseg cannot run: update it"
            )
        self.manifest, self.engine = manifest, engines["decoder"].name
        self._engines, self._tokenizer = engines, tokenizer
        self._images: Cache[np.ndarray] = Cache(images)
        self._texts: Cache[np.ndarray] = Cache(texts)
        self._fixed = _by_prompt(manifest, fixed_text)

    @classmethod
    def open(cls, bundle: Path | str, engine: str = AUTO, threads: int | None = None) -> "Segmenter":
        """Open a bundle folder: manifest and hashes first, then engines.

        Raises:
            BundleError: the bundle is damaged, foreign or of another schema.
            EngineError: the engine is unknown, absent or cannot open a part.
        """
        folder = Path(bundle)
        manifest = Manifest.load(folder)
        fixed = _read_fixed(folder) if manifest.fixed_prompts else None
        tokenizer = Tokenizer.load(folder / manifest.tokenizer) if fixed is None and manifest.tokenizer else None
        return cls(manifest, open_engines(folder, manifest, engine, threads), tokenizer, fixed)

    def run(self, image: np.ndarray, prompt: str, threshold: float | None = None) -> Result:
        """Return probability, mask and timings for a picture, uint8 (H, W, 3), and a prompt.

        Raises:
            UserError: a picture of another shape or type, or a prompt that a bundle of fixed prompts does not have.
            EngineError: the engine fails, or answers with NaN.
        """
        timings = Timings()
        logits = self._logits(image, [prompt], timings)[0]
        start = perf_counter()
        probability = pixels.to_probability(logits, *image.shape[:2])
        mask = pixels.to_mask(probability, self.manifest.threshold if threshold is None else threshold)
        timings.postprocess = _since(start)
        return Result(probability, mask, timings)

    def logits(self, image: np.ndarray, prompt: str) -> np.ndarray:
        """Return the model's own answer, float32 (S, S), S being the manifest's image size."""
        return self._logits(image, [prompt], Timings())[0]

    def probability(self, image: np.ndarray, prompt: str) -> np.ndarray:
        """Return float32 (H, W), 0..1, at the size of the picture."""
        return self.run(image, prompt).probability

    def segment(self, image: np.ndarray, prompt: str, threshold: float | None = None) -> np.ndarray:
        """Return bool (H, W); `threshold` None is the manifest's, chosen on validation."""
        return self.run(image, prompt, threshold).mask

    def segment_many(self, image: np.ndarray, prompts: Sequence[str], threshold: float | None = None) -> np.ndarray:
        """Return bool (n, H, W), one mask for each prompt, by one call of the decoder."""
        if isinstance(prompts, str) or not prompts:
            raise UserError(f"prompts is {prompts!r}, expected a list of at least one sentence")
        level = self.manifest.threshold if threshold is None else threshold
        rows = self._logits(image, prompts, Timings())
        return np.stack([pixels.to_mask(pixels.to_probability(row, *image.shape[:2]), level) for row in rows])

    def forget(self, images: bool = True, texts: bool = True) -> None:
        """Empty the caches; fixed prompts stay."""
        if images:
            self._images.clear()
        if texts:
            self._texts.clear()

    def text_embedding(self, prompts: Sequence[str], timings: Timings | None = None) -> np.ndarray:
        """Return (n, 2, R), fixed, remembered or new; the new ones take one call together.

        Raises:
            UserError: a prompt that a bundle of fixed prompts does not have.
        """
        timings = timings or Timings()
        start = perf_counter()
        if self._fixed:
            if unknown := [prompt for prompt in prompts if prompt not in self._fixed]:
                raise UserError(f"{self.manifest.name} does not know the prompt {unknown[0]!r}: {self._fixed_names()}")
            return np.stack([self._fixed[prompt] for prompt in prompts])
        known = {prompt: self._texts.get(prompt) for prompt in prompts}
        if new := [prompt for prompt, row in known.items() if row is None]:
            for prompt, row in zip(new, self.encode_text(*self.tokenize(new)), strict=True):
                known[prompt] = row
                self._texts.put(prompt, row)
            timings.text = _since(start)
        return np.stack([row for prompt in prompts if (row := known[prompt]) is not None])

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """Run the image part alone: float32 (B, 3, S, S) to the image embedding (B, T, N, R)."""
        return self._engines["image"].run({"pixel_values": pixel_values})["image_embedding"]

    def tokenize(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return input_ids and attention_mask, int64 (B, L), L fixed where the text part is static."""
        if self._tokenizer is None:
            raise UserError(f"{self.manifest.name} has fixed prompts and no words of its own: {self._fixed_names()}")
        dims = self.manifest.axes.get("text", {}).get("input_ids", [])
        return self._tokenizer(prompts, dims[1] if len(dims) == 2 and isinstance(dims[1], int) else None)

    def encode_text(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Run the text part alone: int64 (B, L) twice to the text embedding (B, 2, R)."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self._engines["text"].run(inputs)["text_embedding"]

    def decode(self, image_embedding: np.ndarray, text_embedding: np.ndarray) -> np.ndarray:
        """Run the decoder alone: (B, T, N, R) and (B, 2, R) to logits, float32 (B, S, S).

        Raises:
            EngineError: NaN or infinity in the answer.
        """
        inputs = {"image_embedding": image_embedding, "text_embedding": text_embedding}
        logits = self._engines["decoder"].run(inputs)["logits"][:, 0].astype(np.float32, copy=False)
        if not np.isfinite(logits).all():
            raise EngineError(f"{self.manifest.name} on {self.engine} answered with NaN: try another engine or fp32")
        return logits

    def close(self) -> None:
        """Close the engines and empty the caches."""
        self.forget()
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> "Segmenter":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _logits(self, image: np.ndarray, prompts: Sequence[str], timings: Timings) -> np.ndarray:
        """Return logits (n, S, S) for one picture and n prompts, and fill in `timings`."""
        text = self.text_embedding(prompts, timings)
        embedding = self._image_embedding(image, timings)
        start = perf_counter()
        logits = self.decode(np.repeat(embedding, len(prompts), axis=0), text)
        timings.decoder = _since(start)
        return logits

    def _image_embedding(self, image: np.ndarray, timings: Timings) -> np.ndarray:
        start = perf_counter()
        key = _content(image)
        found = self._images.get(key)
        if found is not None:
            timings.preprocess = _since(start)
            return found
        values = pixels.to_input(image, self.manifest.image_size, self.manifest.mean, self.manifest.std)
        timings.preprocess = _since(start)
        start = perf_counter()
        found = self.encode_image(values[None])
        timings.image = _since(start)
        self._images.put(key, found)
        return found

    def _fixed_names(self) -> str:
        return f"it was exported for {', '.join(map(repr, self._fixed))}"


def _content(image: np.ndarray) -> tuple[bytes, tuple[int, ...], str]:
    """Return a key of the picture's bytes and shape; it cannot be turned back into the picture."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest(), image.shape, image.dtype.str


def _by_prompt(manifest: Manifest, fixed_text: np.ndarray | None) -> dict[str, np.ndarray]:
    prompts = manifest.fixed_prompts
    if len(prompts) != (0 if fixed_text is None else len(fixed_text)):
        raise BundleError(
            f"{manifest.name} has {len(prompts)} fixed prompts but not as many embeddings: export it again"
        )
    return {} if fixed_text is None else dict(zip(prompts, fixed_text, strict=True))


def _read_fixed(folder: Path) -> np.ndarray:
    try:
        values = np.load(folder / FIXED_TEXT, allow_pickle=False)
    except ValueError as error:
        raise BundleError(f"{folder / FIXED_TEXT} is not an array ({error}): export the bundle again") from error
    if values.dtype != np.float32 or values.ndim != 3 or values.shape[1] != 2:
        raise BundleError(
            f"{folder / FIXED_TEXT} is {values.dtype} {values.shape}, expected float32 (n, 2, R): export again"
        )
    return values


def _since(start: float) -> float:
    return (perf_counter() - start) * 1000
