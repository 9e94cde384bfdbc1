"""Several runs on one frozen backbone as one bundle: what they share once, and each run's own tensors in a small file.

Every run is exported by itself, with D and U apart (no fold 1); the graphs must be the same, and the constants in which
they differ are the adapters. These become overridable initializers, so that an engine takes them at every run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnx import numpy_helper

from ..deploy.adapters import Arrays, file_of, write_adapter
from ..deploy.drawn import Case, draw_cases
from ..deploy.errors import UserError
from ..deploy.files import atomic_folder, atomic_write
from ..deploy.manifest import MANIFEST, Manifest
from ..deploy.parity import certify, refusal
from ..deploy.segmenter import Segmenter
from ..deploy.tensorrt.answers import write_answers
from ..train.models.card import CARD, bundle_card
from ..train.models.runs import load_run
from .bundle import Options, Progress, pack
from .parity import torch_segmenter
from .precision import PRECISIONS, check_precision

Loaded = tuple[Any, dict[str, Any]]
"""A run's model and its `run.json`."""

_SAME = ("method", "size", "image_size", "weights_hash", "options")


def parse_adapters(words: Sequence[str]) -> dict[str, Path]:
    """Return runs by name from `name=folder`; UserError where one is not of that form, or a name comes twice."""
    runs: dict[str, Path] = {}
    for word in words:
        name, sign, folder = word.partition("=")
        if not sign or not folder:
            raise UserError(f"--adapter {word!r} is not NAME=RUN, such as skin=runs/skin")
        file_of(name)
        if name in runs:
            raise UserError(f"--adapter {name} is given twice: choose another name for one of them")
        runs[name] = Path(folder)
    return runs


def load_runs(runs: Mapping[str, Path]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return model and `run.json` of each run.

    Raises:
        UserError: a folder that is no run, or runs that are not of one method on one backbone.
    """
    loaded = {name: load_run(path) for name, path in runs.items()}
    first, *others = loaded
    for name in others:
        for key in _SAME:
            a, b = loaded[first][1][key], loaded[name][1][key]
            if a != b:
                raise UserError(
                    f"{first} and {name} do not fit into one bundle ({key} is {a!r} and {b!r}): "
                    "adapters of one bundle have one method, size and backbone"
                )
    return loaded


def export_many(
    runs: Mapping[str, Path],
    out: Path | str,
    *,
    precision: str = "fp32",
    cases: Sequence[Case] | None = None,
    overwrite: bool = True,
    progress: Progress = lambda step: None,
) -> dict[str, Any]:
    """Write one bundle with an adapter for each run, every one proven by itself; return `{bundle, parity, adapters}`.

    Args:
        runs: run folders by the adapter's name; the first is what the bundle answers with when it is opened.
        out: the bundle's folder.
        precision: `fp32` or `fp16`; eight bits have ranges that belong to one adapter.
        cases: for the certificates; None means drawn ones.
        overwrite: replace a bundle of ours.
        progress: called with a sentence before each step.

    Raises:
        UserError: runs that do not fit together, or a certificate that does not pass; nothing is written then.
    """
    check_precision(precision)
    if PRECISIONS[precision][1]:
        raise UserError(f"{precision} has ranges that fit one adapter: export several with --precision fp16 or fp32")
    loaded, options = load_runs(runs), Options(precision, folds="none")
    with atomic_folder(out, MANIFEST, overwrite) as folder:
        first = next(iter(loaded))
        model, info = loaded[first]
        manifest = pack(model, {**info, "name": Path(out).resolve().name}, folder, options, progress)
        manifest = _add_adapters(folder, manifest, loaded, options, progress)
        manifest = _prove(folder, manifest, loaded, cases or draw_cases(), progress)
        write_answers(folder, manifest)
        atomic_write(folder / CARD, bundle_card(manifest, {name: info for name, (_, info) in loaded.items()}))
        manifest.save(folder)
    return {"bundle": str(out), "parity": manifest.parity, "adapters": manifest.adapters}


def _add_adapters(
    folder: Path, manifest: Manifest, loaded: Mapping[str, Loaded], options: Options, tell: Progress
) -> Manifest:
    """Turn the packed bundle of the first run into one with an adapter for each run, and seal it."""
    first, *others = loaded
    graphs = {first: _load(folder, manifest)}
    with TemporaryDirectory() as scratch:
        for name in others:
            tell(f"exporting {name} beside {first}")
            beside = Path(scratch) / name
            beside.mkdir()
            graphs[name] = _load(beside, pack(*loaded[name], beside, options, _nobody))
    own = {part: differing(part, {name: graphs[name][part] for name in graphs}) for part in graphs[first]}
    if not any(own.values()):
        raise UserError(f"{', '.join(loaded)} are one and the same: export one of them by itself")
    entries = {}
    for name, parts in graphs.items():
        tensors = {part: tensors_of(model, own[part]) for part, model in parts.items() if own[part]}
        size, threshold = write_adapter(folder / file_of(name), tensors), loaded[name][1].get("threshold", 0.5)
        entries[name] = {"file": file_of(name), "threshold": float(threshold), "bytes": size}
    for part, model in graphs[first].items():
        onnx.save(overridable(model, own[part]), folder / str(manifest.parts[part]))
    tell(f"{len(entries)} adapters of {entries[first]['bytes'] / 1e6:.2f} MB each")
    return replace(manifest, adapters=entries).save(folder)


def _prove(
    folder: Path, manifest: Manifest, loaded: Mapping[str, Loaded], cases: Sequence[Case], tell: Progress
) -> Manifest:
    """Return the manifest with a certificate for each adapter; UserError where one does not pass."""
    entries = {}
    with Segmenter.open(folder, engine="onnxruntime") as candidate:
        for name, (model, info) in loaded.items():
            tell(f"comparing adapter {name} with its model")
            candidate.use(name)
            trained = info.get("weights") != "random" and info["size"] != "nano"
            parity = certify(torch_segmenter(model, candidate.manifest), candidate, cases, trained)
            if not parity["passed"]:
                raise UserError(f"adapter {name}: {refusal(parity, manifest.precision)}")
            entries[name] = {**manifest.adapters[name], "parity": parity}
    return replace(manifest, adapters=entries, parity=next(iter(entries.values()))["parity"])


def differing(part: str, models: Mapping[str, onnx.ModelProto]) -> list[str]:
    """Return the constants in which these graphs differ; UserError where they differ in anything else."""
    first, *others = models
    plain = _without_constants(models[first])
    constants = {name: {one.name: one for one in model.graph.initializer} for name, model in models.items()}
    found: list[str] = []
    for other in others:
        same = _without_constants(models[other]) == plain and constants[other].keys() == constants[first].keys()
        if not same:
            raise UserError(f"the {part} graphs of {first} and {other} differ: export each by itself")
        for name, one in constants[first].items():
            two = constants[other][name]
            if (one.data_type, list(one.dims)) != (two.data_type, list(two.dims)):
                raise UserError(f"{name} of {first} and {other} differ in shape: export each by itself")
            if name not in found and _bytes(one) != _bytes(two):
                found.append(name)
    return found


def tensors_of(model: onnx.ModelProto, names: Sequence[str]) -> Arrays:
    """Return constants of a graph by name."""
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if one.name in names}


def overridable(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose constants of these names are inputs too: a run may give others, and need not."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.input.extend(
        onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
        for one in model.graph.initializer
        if one.name in names
    )
    return made


def _load(folder: Path, manifest: Manifest) -> dict[str, onnx.ModelProto]:
    return {part: onnx.load(folder / file) for part, file in manifest.parts.items() if file}


def _without_constants(model: onnx.ModelProto) -> bytes:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.graph.ClearField("initializer")
    return bare.SerializeToString(deterministic=True)


def _bytes(tensor: onnx.TensorProto) -> bytes:
    return numpy_helper.to_array(tensor).tobytes()


def _nobody(step: str) -> None:
    """Tell nobody: the steps of the first run were told."""
