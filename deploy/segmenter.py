"""The runtime: a picture and a sentence in, a mask out.

The picture is encoded once, and asked as often as one likes.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from . import pixels, tiles
from .adapters import check_swaps, described, read_adapter
from .answers import Result, Timings
from .asked import Question, key_of, rows_of, together
from .cache import Cache
from .classes import class_map
from .clean import KEEP, Clean
from .engine import AUTO, Arrays, Engine, open_engines
from .errors import NotANumber, UserError
from .fixed import by_prompt, read_fixed
from .flow import GIVEN, Flow
from .manifest import Manifest
from .pixels import Pixels
from .reading import Reading, exported_for
from .words import Tokenizer


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
        self._engines, self._tokenizer, self._words = engines, tokenizer, Reading(manifest, tokenizer)
        self._caches: dict[str, Cache[Arrays]] = {"image": Cache(images), "text": Cache(texts)}
        self._fixed = by_prompt(manifest, fixed or {})
        self._folder = Path()
        self._weights: dict[str, Arrays] = {}

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
        opened = cls(manifest, open_engines(folder, manifest, engine, threads), tokenizer, fixed)
        opened._folder = folder
        return opened

    def use(self, adapter: str) -> None:
        """Answer with another adapter of the bundle, at its own threshold; nothing is rebuilt.

        To be called between questions: one that another thread is asking meanwhile may be answered by both.

        Raises:
            UserError: the bundle has no such adapter; those that it has are named.
            EngineError: the engine has its weights for good.
        """
        tensors = read_adapter(self._folder, self.manifest, adapter)
        check_swaps(self._engines, tensors, adapter)
        self.manifest, self._weights = described(self.manifest, adapter), tensors
        self.forget()

    def run(self, image: Pixels, prompt: str, threshold: float | None = None, clean: Clean = KEEP) -> Result:
        """Return probability, mask and timings for a picture, uint8 (H, W, 3) or Pillow's in RGB, and a prompt.

        `threshold` None is the manifest's, chosen on validation; `clean` is done to the mask alone.

        Raises:
            UserError: a picture of another shape or type, a prompt that a bundle of fixed prompts does not have, or
                scipy absent where `clean` needs it.
            EngineError: the engine fails, or answers with NaN.
        """
        return self.run_batch([image], [prompt], threshold, clean)[0]

    def run_batch(
        self,
        images: Sequence[Pixels],
        prompts: Sequence[str],
        threshold: float | None = None,
        clean: Clean = KEEP,
        remember: bool = True,
    ) -> list[Result]:
        """Return an answer for each picture with its prompt, by one call of each part; pictures may differ in size.

        `remember` False keeps nothing of the pictures: for tiles and frames, which are asked once. Raises as `run`.
        """
        timings = Timings()
        rows = self._logits(images, prompts, timings, remember)
        with timings.measure("postprocess"):
            found = [
                pixels.to_probability(row, *pixels.shape_of(image)) for row, image in zip(rows, images, strict=True)
            ]
            masks = [self._mask(probability, threshold, clean) for probability in found]
        return [Result(probability, mask, timings) for probability, mask in zip(found, masks, strict=True)]

    def logits(self, image: Pixels, prompt: str) -> np.ndarray:
        """Return the model's own answer, float32 (S, S), S being the manifest's image size."""
        return self._logits([image], [prompt], Timings())[0]

    def probability(self, image: Pixels, prompt: str) -> np.ndarray:
        """Return float32 (H, W), 0..1, at the size of the picture."""
        return self.run(image, prompt).probability

    def segment(
        self, image: Pixels, prompt: str, threshold: float | None = None, clean: Clean = KEEP, remember: bool = True
    ) -> np.ndarray:
        """Return bool (H, W), the mask of `run`, sooner; options and errors as `run_batch`."""
        level = pixels.level_of(threshold, self.manifest.threshold)
        logits = self._logits([image], [prompt], Timings(), remember)[0]
        return clean(pixels.mask_of(logits, *pixels.shape_of(image), level))

    def run_many(
        self, image: Pixels, prompts: Sequence[str], threshold: float | None = None, clean: Clean = KEEP
    ) -> list[Result]:
        """Return an answer for each prompt about one picture, by one call of the decoder; errors as `run`."""
        if isinstance(prompts, str) or not prompts:
            raise UserError(f"prompts is {prompts!r}, expected a list of at least one sentence")
        return self.run_batch([image] * len(prompts), prompts, threshold, clean)

    def segment_many(
        self, image: Pixels, prompts: Sequence[str], threshold: float | None = None, clean: Clean = KEEP
    ) -> np.ndarray:
        """Return bool (n, H, W), one mask for each prompt, by one call of the decoder; they may overlap."""
        return np.stack([result.mask for result in self.run_many(image, prompts, threshold, clean)])

    def classes(
        self, image: Pixels, prompts: Sequence[str], threshold: float | None = None, clean: Clean = KEEP
    ) -> np.ndarray:
        """Return a class map, uint8 (H, W): 0 is background, i + 1 the prompt at place i; classes never overlap.

        A pixel belongs to the prompt of the highest probability, the first among equals, and to the background where
        none is above `threshold`. `clean` is done to each class alone; what it adds takes background only.

        Raises:
            UserError: more than 255 prompts, or as `run`.
        """
        answers = self.run_many(image, prompts, threshold)
        level = pixels.level_of(threshold, self.manifest.threshold)
        return class_map([answer.probability for answer in answers], level, clean)

    def tiled(
        self,
        image: Pixels,
        prompt: str,
        threshold: float | None = None,
        clean: Clean = KEEP,
        *,
        side: int | None = None,
        overlap: float = 0.25,
        batch: int = 1,
        progress: tiles.Progress | None = None,
    ) -> Result:
        """Return the answer for a picture far larger than the model's input, asked tile by tile and blended.

        A tile is `side` pixels wide (None: the model's input, so that nothing is shrunk) and shares at least `overlap`
        of it with its neighbours; `batch` tiles go through the model at a time, `progress(done, total)` follows. A
        model knows objects at the size they had in training: choose `side` so that they look as large here.

        Raises:
            UserError: a side below 1, an overlap outside of 0 to 0.9, or as `run`.
        """
        pixels.check_image(image)
        whole = np.asarray(image)
        side = self.manifest.image_size if side is None else side
        grid, timings = tiles.lay(whole.shape[:2], side, overlap), Timings()

        def ask(some: Sequence[np.ndarray]) -> list[np.ndarray]:
            rows = self._logits(some, [prompt] * len(some), timings, remember=False)
            with timings.measure("postprocess"):
                return [pixels.to_probability(row, *tile.shape[:2]) for row, tile in zip(rows, some, strict=True)]

        probability = tiles.blend(whole, grid, ask, batch, progress)
        with timings.measure("postprocess"):
            mask = self._mask(probability, threshold, clean)
        return Result(probability, mask, timings)

    def stream(
        self, frames: Iterable[Pixels], prompt: str, threshold: float | None = None, clean: Clean = KEEP
    ) -> Iterator[Result]:
        """Yield the answer for each frame, uint8 (H, W, 3), as it comes; the prompt is encoded once.

        Nothing of a frame is kept. Raises as `run`.
        """
        for frame in frames:
            yield self.run_batch([frame], [prompt], threshold, clean, remember=False)[0]

    def forget(self, images: bool = True, texts: bool = True) -> None:
        """Forget what was made from pictures, from prompts, or both; fixed prompts stay."""
        chosen = {source for source, on in (("picture", images), ("prompt", texts)) if on}
        for part, cache in self._caches.items():
            if chosen & self.flow.depends[part]:
                cache.clear()

    def tokenize(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return input_ids and attention_mask, int64 (B, L); the first sentence too long is said (logger `vlseg`)."""
        return self._words(prompts)

    def unread(self, prompt: str) -> str:
        """Return the end of a sentence that the model does not read, being too long; empty where it reads it all."""
        return self._words.unread(prompt)

    def run_part(self, part: str, inputs: Arrays) -> Arrays:
        """Run `image`, `text` or `decoder` alone, every input and output by its name and batch first.

        Raises:
            NotANumber: NaN or infinity in the logits.
        """
        out = self._engines[part].run({**inputs, **self._weights.get(part, {})})
        if part == "decoder" and not np.isfinite(out["logits"]).all():
            raise NotANumber(f"{self.manifest.name} on {self.engine} answered with NaN: try another engine or fp32")
        return out

    def engine_of(self, part: str) -> Engine:
        """Return the engine that runs one part."""
        return self._engines[part]

    def inputs_of_parts(self, image: Pixels, prompt: str, batch: int = 1) -> dict[str, Arrays]:
        """Return what each part is given when a picture and a prompt, repeated to a batch, go through the model."""
        asked = self._ask([image] * batch, [prompt] * batch, Timings())
        inputs: dict[str, Arrays] = {}
        for part in self._running():
            inputs[part] = self._inputs(part, asked, range(batch))
            for made, row in zip(asked.made, rows_of(self.run_part(part, inputs[part])), strict=True):
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

    def _mask(self, probability: np.ndarray, threshold: float | None, clean: Clean) -> np.ndarray:
        return clean(pixels.to_mask(probability, pixels.level_of(threshold, self.manifest.threshold)))

    def _logits(
        self, images: Sequence[Pixels], prompts: Sequence[str], timings: Timings, remember: bool = True
    ) -> np.ndarray:
        """Return logits (n, S, S) for n pictures, each with its prompt, and fill in `timings`."""
        asked = self._ask(images, prompts, timings)
        if remember:
            with timings.measure("preprocess"):
                keys = {id(image): key_of(image) for image in images}
            asked.pictures = [keys[id(image)] for image in images]
        *encoders, decoder = self._running()
        for part in encoders:
            self._encode(part, asked)
        inputs = self._inputs(decoder, asked, range(len(prompts)))
        with timings.measure("decoder"):
            return self.run_part(decoder, inputs)["logits"][:, 0].astype(np.float32, copy=False)

    def _ask(self, images: Sequence[Pixels], prompts: Sequence[str], timings: Timings) -> Question:
        if self._fixed and (unknown := [prompt for prompt in prompts if prompt not in self._fixed]):
            raise UserError(
                f"{self.manifest.name} does not know the prompt {unknown[0]!r}: {exported_for(self.manifest)}"
            )
        if self.manifest.needs_words and not all(prompt.strip() for prompt in prompts):
            raise UserError(
                f"{self.manifest.name} needs words and was given none: say what to find, or train one with "
                "options.text=optional, which learned what to do without"
            )
        if len(images) != len(prompts) or not images:
            raise UserError(f"{len(images)} pictures with {len(prompts)} prompts, expected a prompt for each picture")
        for image in images:
            pixels.check_image(image)
        return Question(images, prompts, [dict(self._fixed.get(prompt, {})) for prompt in prompts], timings)

    def _running(self) -> list[str]:
        """Return the parts that there are, in their order; text is none where the prompts are fixed."""
        return [part for part in self.flow.order if part != "text" or not self._fixed]

    def _encode(self, part: str, asked: Question) -> None:
        """Add what a part makes for each row, remembered or new; the new ones take one call together."""
        depends = self.flow.depends[part]
        cache = self._caches[part] if asked.pictures or "picture" not in depends else Cache[Arrays](0)
        keys = [asked.key(i, depends) for i in range(len(asked.prompts))]
        known = {key: cache.get(key) for key in keys}
        if new := {key: i for i, key in enumerate(keys) if known[key] is None}:
            inputs = self._inputs(part, asked, new.values())
            with asked.timings.measure(part):
                rows = rows_of(self.run_part(part, inputs))
            for key, row in zip(new, rows, strict=True):
                known[key] = row
                cache.put(key, row)
        for made, key in zip(asked.made, keys, strict=True):
            made.update(known[key] or {})

    def _inputs(self, part: str, asked: Question, chosen: Iterable[int]) -> Arrays:
        """Return what a part reads for the chosen rows: from outside, and from the parts before it."""
        chosen = list(chosen)
        names = self.flow.inputs[part]
        sources = {GIVEN[name] for name in names if name in GIVEN}
        inputs: Arrays = {}
        if "picture" in sources:
            with asked.timings.measure("preprocess"):
                inputs["pixel_values"] = self._pixel_values([asked.images[i] for i in chosen])
        if "prompt" in sources:
            with asked.timings.measure("text"):
                words = self.tokenize([asked.prompts[i] for i in chosen])
            inputs.update(zip(("input_ids", "attention_mask"), words, strict=True))
        for name in names:
            if name not in GIVEN:
                inputs[name] = together([asked.made[i][name] for i in chosen])
        return inputs

    def _pixel_values(self, images: Sequence[Pixels]) -> np.ndarray:
        """Return float32 (n, 3, S, S); a picture that comes several times is made once."""
        size, mean, std = self.manifest.image_size, self.manifest.mean, self.manifest.std
        made = {id(image): image for image in images}
        made = {key: pixels.to_input(image, size, mean, std)[None] for key, image in made.items()}
        return made[id(images[0])] if len(images) == 1 else np.concatenate([made[id(image)] for image in images])
