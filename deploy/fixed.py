"""What the text part said of prompts that were fixed at export: constants, one row for each prompt."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from .adapters import DAMAGED
from .errors import BundleError
from .manifest import Manifest, fixed_file

Arrays = Mapping[str, np.ndarray]
TYPES = ("float32", "int64", "bool")


def read_fixed(folder: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return the text outputs of a bundle's fixed prompts by name, (n, ...) each.

    Raises:
        BundleError: a file that is no array, or not of the type and shape that the decoder takes.
    """
    return {name: _read(folder / fixed_file(name), _dims(manifest, name)) for name in manifest.flow["text"]["outputs"]}


def by_prompt(manifest: Manifest, fixed: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Return each prompt's rows by name; BundleError where there are not as many rows as prompts."""
    prompts = manifest.fixed_prompts
    if any(len(prompts) != len(array) for array in fixed.values()) or bool(prompts) != bool(fixed):
        raise BundleError(
            f"{manifest.name} has {len(prompts)} fixed prompts but not as many embeddings: export it again"
        )
    return {prompt: {name: array[i] for name, array in fixed.items()} for i, prompt in enumerate(prompts)}


def _dims(manifest: Manifest, name: str) -> list[int | str] | None:
    """Return the dims that a part which takes this output names for it, or None where none does."""
    takers = [part for part, ends in manifest.flow.items() if name in ends["inputs"]]
    found = [manifest.axes[part][name] for part in takers if name in manifest.axes.get(part, {})]
    return found[0] if found else None


def _read(path: Path, dims: list[int | str] | None) -> np.ndarray:
    try:
        values = load_array(path)
    except DAMAGED as error:
        raise BundleError(f"{path} is not an array ({error}): export the bundle again") from error
    expected = f"{' or '.join(TYPES)} {['n', *dims[1:]] if dims else '(n, ...)'}"
    if str(values.dtype) not in TYPES or not values.ndim or (dims and not _fits(values.shape, dims)):
        raise BundleError(f"{path} is {values.dtype} {values.shape}, expected {expected}: export again")
    return values


def load_array(path: Path) -> np.ndarray:
    """Return the array of a `.npy` file; nothing is unpickled, and a header that promises more than there is, refused.

    Raises:
        ValueError: another file; and what else `DAMAGED` names.
    """
    with open(path, "rb") as file:
        if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
            raise ValueError("it is no array of numpy")
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _fits(shape: tuple[int, ...], dims: list[int | str]) -> bool:
    return len(shape) == len(dims) and all(isinstance(d, str) or d == n for n, d in zip(shape, dims, strict=True))
