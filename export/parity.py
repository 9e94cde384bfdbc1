"""Parity at export: the model in torch is what the bundle's engines are held against, on drawn or on real pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..deploy.annotations import Sample, choose_prompt, read_pair, read_samples
from ..deploy.drawn import COUNT, SMALL, Case, draw_cases
from ..deploy.manifest import Manifest
from ..deploy.segmenter import Segmenter
from ..train.models.promptable import Promptable
from ..train.models.torch_engine import engines_of


def torch_segmenter(model: Promptable, manifest: Manifest) -> Segmenter:
    """Return a segmenter that runs `model` (float32, on the CPU) under a bundle's description, any sentence allowed."""
    return Segmenter(replace(manifest, fixed_prompts=[], axes={}), engines_of(model), model.tokenizer)


def cases_from(folder: Path | str, split: str = "test", prompt: str = "p1") -> list[Case]:
    """Return cases from a data folder, topped up with drawn ones until there are 16 and half of them are small.

    `prompt` is a key of the annotations, or the sentence of a plain folder. Nothing of the pictures is kept.
    """
    plain = not (Path(folder) / "anns").exists()
    samples = read_samples(folder, split, prompt if plain else None)
    key = "p1" if plain else prompt
    cases = [_from_sample(sample, key) for sample in _spread(samples, 4 * COUNT)]
    small = [case for case in cases if case.share < SMALL][: COUNT // 2]
    large = [case for case in cases if case.share >= SMALL][: COUNT // 2]
    drawn = draw_cases()
    small += [case for case in drawn if case.share < SMALL][: COUNT // 2 - len(small)]
    large += [case for case in drawn if case.share >= SMALL][: COUNT // 2 - len(large)]
    return small + large


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return at most `count` samples, evenly over the split."""
    return list(samples[:: -(-len(samples) // count)])


def _from_sample(sample: Sample, key: str) -> Case:
    image, mask = read_pair(sample)
    return Case(image, choose_prompt(sample, key), float(mask.mean()))
