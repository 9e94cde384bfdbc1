"""From a run to a bundle: fold, export, prove, pack; or refuse, and write nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from ..deploy.drawn import Case, draw_cases, with_prompts
from ..deploy.errors import EngineError, NotANumber, UserError
from ..deploy.files import atomic_folder, atomic_write
from ..deploy.manifest import MANIFEST, Manifest, fixed_file
from ..deploy.parity import certify, refusal
from ..deploy.segmenter import Segmenter
from ..deploy.tensorrt.answers import write_answers
from ..train.models.card import CARD, bundle_card, origin
from ..train.models.parts import facts_of
from ..train.models.promptable import Promptable
from ..train.models.runs import load_run
from .calibration import read_pictures
from .choose import Folds, choose_down
from .graph import OPSET, axes_of, to_onnx
from .islands import Chosen, choose_halves, overflows, too_dear
from .judge import Picture
from .parity import cases_from, torch_segmenter
from .parts import FILES, sources_of, tokens
from .precision import PRECISIONS, check_calibration, check_opset, in_precision
from .prepare import Prepared, prepare
from .quantize_choose import quantize_bundle
from .targets import build_engines, check_target, finish

Progress = Callable[[str], None]
Parity = dict[str, Any] | None
"""A certificate; None where the bundle answers with NaN."""
TOKENIZER = "tokenizer.json"
OVERFLOW_ON = 4
"""Drawn pictures that show whether half leaves its range."""
WAY_OUT = "export with --precision fp32"
_COUNTS = ("trained_parameters",)
_LIBRARIES = ("vlseg", "torch", "transformers", "onnx", "onnxscript", "tokenizers", "numpy")


@dataclass(frozen=True)
class Options:
    """What kind of bundle is wanted; `fixed_prompts` empty means that any sentence may be asked."""

    precision: str = "fp32"
    fixed_prompts: tuple[str, ...] = ()
    folds: Folds = "measure"
    target: str = "onnx"
    architectures: tuple[int, ...] = ()
    opset: int = OPSET


def export(
    run: Path | str,
    out: Path | str,
    *,
    precision: str = "fp32",
    fixed_prompts: Iterable[str] = (),
    data: Path | str | None = None,
    split: str = "test",
    prompt: str = "p1",
    folds: Folds = "measure",
    target: str = "onnx",
    architectures: Iterable[int] = (),
    calibrate: Path | str | None = None,
    opset: int = OPSET,
    overwrite: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the bundle of a run folder to `out` and return `{bundle, parity, folds, quantised, engines}`.

    Args:
        run: a folder that `vlseg train` wrote.
        out: the bundle's folder; a bundle there is replaced if `overwrite`, anything else is refused.
        precision: one of `precision.PRECISIONS`.
        fixed_prompts: sentences whose embeddings become constants; the text encoder then leaves.
        data: a data folder whose images take part in the parity check, drawn ones otherwise; only numbers are kept.
        split: of `data`.
        prompt: a prompt key of `data`, or the sentence of a plain folder.
        folds: how down-projections are folded: by measurement, everywhere or nowhere.
        target: one of `targets.TARGETS`.
        architectures: compute capabilities to build engines for, 86 for 8.6; none: all that the target knows.
        calibrate: folder of pictures that an eight-bit precision measures its ranges on; nothing of them is kept.
        opset: of ONNX, one of `graph.OPSETS`.
        overwrite: replace a bundle of ours.
        progress: called with a sentence before each step.

    Raises:
        UserError: bad input, or a bundle that does not agree with the model; nothing is written then.
    """
    options = Options(precision, tuple(dict.fromkeys(fixed_prompts)), folds, target, tuple(architectures), opset)
    check_calibration(precision, calibrate is not None)
    check_opset(opset, precision)
    check_target(target, options.architectures, precision)
    cases = cases_from(data, split, prompt) if data is not None else None
    pictures = read_pictures(calibrate, prompt, options.fixed_prompts) if calibrate is not None else ()
    model, info = load_run(Path(run))
    return export_model(
        model, info, out, options, cases=cases, pictures=pictures, overwrite=overwrite, progress=progress
    )


def export_model(
    model: Promptable,
    info: dict[str, Any],
    out: Path | str,
    options: Options | None = None,
    *,
    cases: Sequence[Case] | None = None,
    pictures: Sequence[Picture] = (),
    overwrite: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """As `export`, for a model in memory (float32, on the CPU) and its `run.json`; `cases` None means drawn ones.

    `info` needs `method` and `size`; `weights`, `threshold` and `metrics` are used where present. `pictures` are what
    an eight-bit precision is calibrated on.
    """
    options, tell = options or Options(), progress or _silent
    named = {**info, "name": Path(out).resolve().name}
    check_calibration(options.precision, bool(pictures))
    check_opset(options.opset, options.precision)
    with atomic_folder(out, MANIFEST, overwrite) as folder:
        drawn = [(case.image, case.prompt) for case in with_prompts(draw_cases(seed=1), options.fixed_prompts)]
        asked = with_prompts(cases or draw_cases(), options.fixed_prompts)
        trained = info.get("weights") != "random" and info["size"] != "nano"

        def prove() -> Parity:
            tell("comparing the bundle with the model on 16 or more images")
            return _prove(model, folder, asked, trained)

        tensors, bits = PRECISIONS[options.precision]
        manifest = pack(model, named, folder, replace(options, precision=tensors), tell)
        parity = None if bits and tensors == "fp32" else prove()
        if tensors == "fp16" and _too_much(model, manifest, parity, drawn[:OVERFLOW_ON]):
            tell("half costs too much somewhere: judging kinds of layers")
            choose = partial(choose_halves, pictures=drawn, tell=tell)
            manifest = pack(model, named, folder, replace(options, precision=tensors), tell, choose)
            parity = None if bits else prove()
        if bits:
            # drawn ones too: the certificate will ask for small objects, which the pictures may not have
            manifest = _fewer_bits(folder, replace(manifest, precision=options.precision), [*pictures, *drawn], tell)
            parity = prove()
        if parity is None:
            raise EngineError(f"the {options.precision} bundle answers with NaN, so nothing was written: {WAY_OUT}")
        if not parity["passed"]:
            raise UserError(refusal(parity, options.precision))
        engines = build_engines(options.target, folder, manifest, options.architectures, tell)
        write_answers(folder, manifest)
        manifest = replace(manifest, parity=parity)
        atomic_write(folder / CARD, bundle_card(manifest, {manifest.name: info}))
        manifest.save(folder)
    engines += finish(options.target, Path(out), tell)
    kept = {"folds": manifest.folds, "quantised": manifest.quantised, "engines": engines}
    return {"bundle": str(out), "parity": parity, **kept}


def _too_much(model: Promptable, manifest: Manifest, parity: Parity, pictures: Sequence[Picture]) -> bool:
    """Does half use more than it may, or leave its range?"""
    if parity is None or too_dear(parity):
        return True
    return overflows(prepare(model, constant_text=bool(manifest.fixed_prompts)), manifest, pictures)


def _fewer_bits(folder: Path, manifest: Manifest, pictures: Sequence[Picture], tell: Progress) -> Manifest:
    """Quantise a bundle of floats, which keeps its islands of float32; return its manifest, sealed."""
    records = quantize_bundle(folder, manifest.save(folder), pictures, PRECISIONS[manifest.precision][1], tell)
    return replace(manifest, quantised=[*manifest.quantised, *records]).save(folder)


def _prove(model: Promptable, folder: Path, asked: Sequence[Case], trained: bool) -> Parity:
    """Return the certificate of a bundle; None where it answers with NaN."""
    with Segmenter.open(folder) as candidate:
        try:
            return certify(torch_segmenter(model, candidate.manifest), candidate, asked, trained)
        except NotANumber:
            return None


def pack(
    model: Promptable,
    info: dict[str, Any],
    folder: Path,
    options: Options,
    tell: Progress,
    choose: Callable[[Prepared, Manifest], Chosen] | None = None,
) -> Manifest:
    """Write parts, words and manifest into an existing `folder`, without the proof; return the manifest.

    `choose` says what of each part is half, and what it found; without it all is, where the precision is.
    """
    check_opset(options.opset, options.precision)
    if options.fixed_prompts and model.text_depends_on_image:
        raise UserError(
            f"the text of {info['method']} depends on the image, so no prompt can be made a constant: "
            "export without fixed prompts"
        )
    tell("choosing folds")
    sites, records = choose_down(model, options.folds)
    prepared = prepare(model, sites, constant_text=bool(options.fixed_prompts))
    axes, files = {}, dict(FILES)
    if options.fixed_prompts:
        tell("computing the fixed prompts")
        _write_fixed_text(prepared, options.fixed_prompts, folder)
        del files["text"]
    else:
        atomic_write(folder / TOKENIZER, model.tokenizer.json)
    manifest = _manifest(model, info, options)
    halves, judged = choose(prepared, manifest) if choose else ({}, [])
    sources = sources_of(prepared)
    for name, file in files.items():
        tell(f"exporting the {name} part in {options.precision}")
        module = halves[name]() if name in halves else in_precision(sources[name].module, options.precision)
        graph = to_onnx(replace(sources[name], module=module), options.opset)
        axes[name] = axes_of(graph)
        onnx.save(graph, folder / file)
    folds = [*({"fold": phrase} for phrase in prepared.done), *records]
    parts = {name: files.get(name) for name in FILES}
    return replace(manifest, parts=parts, axes=axes, folds=folds, quantised=judged).save(folder)


@torch.no_grad()
def _write_fixed_text(prepared: Prepared, prompts: Sequence[str], folder: Path) -> None:
    """Run the text part once, in float32, and keep what it says: a file for each output, (n, ...)."""
    # one at a time, so that a prompt's embedding does not depend on its neighbours' lengths
    rows = [prepared.parts["text"](*tokens(prepared.model.tokenizer, [prompt])) for prompt in prompts]
    for name, column in zip(prepared.flow["text"]["outputs"], zip(*rows, strict=True), strict=True):
        np.save(folder / fixed_file(name), torch.cat(column).numpy(), allow_pickle=False)


def _manifest(model: Promptable, info: dict[str, Any], options: Options) -> Manifest:
    facts: dict[str, Any] = facts_of(model) | {"backbone": origin(info)}
    return Manifest(
        **facts,
        name=info.get("name", info["method"]),
        method=info["method"],
        size=info["size"],
        threshold=float(info.get("threshold", 0.5)),
        tokenizer=None if options.fixed_prompts else TOKENIZER,
        fixed_prompts=list(options.fixed_prompts),
        precision=options.precision,
        opset=options.opset,
        training=_numbers(info.get("metrics", {}) | {key: info[key] for key in _COUNTS if key in info}),
        versions={name: version(name) for name in _LIBRARIES},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _numbers(metrics: Any) -> Any:
    """Return the finite numbers of a nested dict under their names, and nothing else: no path, no name of a patient."""
    if not isinstance(metrics, dict):
        return {}
    kept = {str(key): _numbers(value) if isinstance(value, dict) else value for key, value in metrics.items()}
    return {key: value for key, value in kept.items() if value != {} and (isinstance(value, dict) or _finite(value))}


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _silent(step: str) -> None:
    """Tell nobody."""
