"""The runtime: a picture and a sentence in, a mask out.

The picture is encoded once, and asked as often as one likes.
"""

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from types import TracebackType

import numpy as np

from . import pixels
from .cache import Cache
from .engine import AUTO, Arrays, Engine, open_engines
from .errors import EngineError, UserError
from .fixed import by_prompt, read_fixed
from .flow import GIVEN, Flow
from .manifest import Manifest
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

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the milliseconds that the body takes to a stage."""
        start = perf_counter()
        yield
        setattr(self, stage, getattr(self, stage) + (perf_counter() - start) * 1000)

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


@dataclass
class _Question:
    """A picture and prompts on their way through the parts; `made` holds, for each prompt, what there is by name."""

    image: np.ndarray
    prompts: Sequence[str]
    made: list[Arrays]
    timings: Timings = field(default_factory=Timings)
    picture: Hashable = None

    def key(self, i: int, depends: Iterable[str]) -> Hashable:
        """Return the key of what depends on the picture, the prompt or both."""
        return tuple(self.picture if source == "picture" else self.prompts[i] for source in sorted(depends))


class Segmenter:
    """A model that is ready to be asked; safe to call from several threads.

    What the encoders make is kept, bounded and in memory only: neither pictures nor prompts are written anywhere. An
    image part that reads the picture alone is known by a hash of its bytes, a text part by the prompt, and a part that
    needs the other's output by both.

    Attributes:
        manifest: the bundle's (or run's) description.
        engine: name of the engine in use.
        flow: which part needs what.
    """

    def __init__(
        self,
        manifest: Manifest,
        engines: dict[str, Engine],
        tokenizer: Tokenizer | None,
        fixed: Arrays | None = None,
        images: int = 8,
        texts: int = 256,
    ):
        """Put the parts together; `fixed` holds the text outputs of the manifest's fixed prompts by name, (n, ...).

        `images` and `texts` bound what is kept of the two encoders, in entries.
        """
        self.manifest, self.engine, self.flow = manifest, engines["decoder"].name, Flow(manifest.flow)
        self._engines, self._tokenizer = engines, tokenizer
        self._caches: dict[str, Cache[Arrays]] = {"image": Cache(images), "text": Cache(texts)}
        self._fixed = by_prompt(manifest, fixed or {})

    @classmethod
    def open(cls, bundle: Path | str, engine: str = AUTO, threads: int | None = None) -> "Segmenter":
        """Open a bundle folder: manifest and hashes first, then engines.

        Raises:
            BundleError: the bundle is damaged, foreign or of another schema.
            EngineError: the engine is unknown, absent or cannot open a part.
        """
        folder = Path(bundle)
        manifest = Manifest.load(folder)
        fixed = read_fixed(folder, manifest) if manifest.fixed_prompts else None
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
        with timings.measure("postprocess"):
            probability = pixels.to_probability(logits, *image.shape[:2])
            mask = pixels.to_mask(probability, self.manifest.threshold if threshold is None else threshold)
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
        """Forget what was made from pictures, from prompts, or both; fixed prompts stay."""
        chosen = {source for source, on in (("picture", images), ("prompt", texts)) if on}
        for part, cache in self._caches.items():
            if chosen & self.flow.depends[part]:
                cache.clear()

    def tokenize(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return input_ids and attention_mask, int64 (B, L), L fixed where the text part is static."""
        if self._tokenizer is None:
            raise UserError(f"{self.manifest.name} has fixed prompts and no words of its own: {self._fixed_names()}")
        dims = self.manifest.axes.get("text", {}).get("input_ids", [])
        return self._tokenizer(prompts, dims[1] if len(dims) == 2 and isinstance(dims[1], int) else None)

    def run_part(self, part: str, inputs: Arrays) -> Arrays:
        """Run `image`, `text` or `decoder` alone, every input and output by its name and batch first.

        Raises:
            EngineError: NaN or infinity in the logits.
        """
        out = self._engines[part].run(inputs)
        if part == "decoder" and not np.isfinite(out["logits"]).all():
            raise EngineError(f"{self.manifest.name} on {self.engine} answered with NaN: try another engine or fp32")
        return out

    def inputs_of_parts(self, image: np.ndarray, prompt: str, batch: int = 1) -> dict[str, Arrays]:
        """Return what each part is given when a picture and a prompt, repeated to a batch, go through the model."""
        asked = self._ask(image, [prompt] * batch)
        inputs: dict[str, Arrays] = {}
        for part in self._running():
            inputs[part] = self._inputs(part, asked, range(batch))
            for made, row in zip(asked.made, _rows(self.run_part(part, inputs[part])), strict=True):
                made.update(row)
        return inputs

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
        asked = self._ask(image, prompts, timings)
        with timings.measure("preprocess"):
            asked.picture = _content(image)
        *encoders, decoder = self._running()
        for part in encoders:
            self._encode(part, asked)
        inputs = self._inputs(decoder, asked, range(len(prompts)))
        with timings.measure("decoder"):
            return self.run_part(decoder, inputs)["logits"][:, 0].astype(np.float32, copy=False)

    def _ask(self, image: np.ndarray, prompts: Sequence[str], timings: Timings | None = None) -> _Question:
        if self._fixed and (unknown := [prompt for prompt in prompts if prompt not in self._fixed]):
            raise UserError(f"{self.manifest.name} does not know the prompt {unknown[0]!r}: {self._fixed_names()}")
        made = [dict(self._fixed.get(prompt, {})) for prompt in prompts]
        return _Question(image, prompts, made, timings or Timings())

    def _running(self) -> list[str]:
        """Return the parts that there are, in their order; text is none where the prompts are fixed."""
        return [part for part in self.flow.order if part != "text" or not self._fixed]

    def _encode(self, part: str, asked: _Question) -> None:
        """Add what a part makes for each prompt, remembered or new; the new ones take one call together."""
        cache = self._caches[part]
        keys = [asked.key(i, self.flow.depends[part]) for i in range(len(asked.prompts))]
        known = {key: cache.get(key) for key in keys}
        if new := {key: i for i, key in enumerate(keys) if known[key] is None}:
            inputs = self._inputs(part, asked, new.values())
            with asked.timings.measure(part):
                rows = _rows(self.run_part(part, inputs))
            for key, row in zip(new, rows, strict=True):
                known[key] = row
                cache.put(key, row)
        for made, key in zip(asked.made, keys, strict=True):
            made.update(known[key] or {})

    def _inputs(self, part: str, asked: _Question, chosen: Iterable[int]) -> Arrays:
        """Return what a part reads for the chosen prompts: from outside, and from the parts before it."""
        chosen = list(chosen)
        names = self.flow.inputs[part]
        sources = {GIVEN[name] for name in names if name in GIVEN}
        inputs: Arrays = {}
        if "picture" in sources:
            with asked.timings.measure("preprocess"):
                values = pixels.to_input(asked.image, self.manifest.image_size, self.manifest.mean, self.manifest.std)
            inputs["pixel_values"] = np.repeat(values[None], len(chosen), axis=0)
        if "prompt" in sources:
            with asked.timings.measure("text"):
                words = self.tokenize([asked.prompts[i] for i in chosen])
            inputs.update(zip(("input_ids", "attention_mask"), words, strict=True))
        for name in names:
            if name not in GIVEN:
                inputs[name] = np.stack([asked.made[i][name] for i in chosen])
        return inputs

    def _fixed_names(self) -> str:
        return f"it was exported for {', '.join(map(repr, self._fixed))}"


def _rows(outputs: Arrays) -> list[Arrays]:
    """Return each row of a part's outputs by name."""
    count = len(next(iter(outputs.values())))
    return [{name: array[i] for name, array in outputs.items()} for i in range(count)]


def _content(image: np.ndarray) -> tuple[bytes, tuple[int, ...], str]:
    """Return a key of the picture's bytes and shape; it cannot be turned back into the picture."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest(), image.shape, image.dtype.str
