"""`vlseg build`: engines of a bundle on this device, each proven against ONNX Runtime's answers before it is kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..adapters import read_adapter
from ..engines.trt import TensorRT
from ..errors import EngineError, UserError
from ..files import atomic_write, sha256
from ..flow import PARTS
from ..manifest import Manifest
from ..stats import paired_ratio
from ..wire import check_own_weights
from . import answers, library, plugins, remedies, timing_cache
from .budget import MIB, Budget, budget
from .compile import compile_engine, order_of
from .cuda import Cuda, Device
from .kernels import INDEX as KERNELS
from .kernels import Kernel, read_kernels
from .network import check_opset, check_precision, mentions
from .plans import FOLDER, Here, Plan, check_file, key_of, read_plans, stale, write_plans
from .progress import Tell
from .prove import full_batch, load, median, times

Plugins = Literal["measure", "on", "off"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What is wanted.

    Attributes:
        batches: sizes to build, each with static shapes.
        plugins: our kernels by measurement, always or never.
        workspace_mib: scratch memory of a tactic; None is sized to the device.
        level: TensorRT's optimisation level 0 to 5; None is sized to the device.
        refit: for each part, the weights that may be exchanged later; such engines have no plugins. None are those of
            the bundle's adapters.
        again: build what is there and fresh, too.
    """

    batches: tuple[int, ...] = (1,)
    plugins: Plugins = "measure"
    workspace_mib: int | None = None
    level: int | None = None
    refit: dict[str, tuple[str, ...]] = field(default_factory=dict)
    again: bool = False


@dataclass(frozen=True)
class Site:
    """Where and with what is built."""

    folder: Path
    manifest: Manifest
    trt: Any
    cuda: Cuda
    device: Device
    here: Here
    kernels: list[Kernel]
    answers: answers.Arrays
    budget: Budget
    say: Say
    tell: Tell

    @property
    def place(self) -> str:
        """The folder of this device's engines, in the bundle."""
        return f"{FOLDER}/{self.device.slug}-{self.here.tensorrt}"

    def timings(self) -> Path:
        """Where TensorRT's timings for this device and version are kept."""
        return timing_cache.path_of(self.folder, self.device, self.here.tensorrt)


@dataclass(frozen=True)
class Built:
    """An engine that agreed, not yet written."""

    data: bytes
    plan: Plan


def build(
    bundle: Path | str,
    options: Options | None = None,
    *,
    say: Say | None = None,
    tell: Tell | None = None,
    trt: Any = None,
    cuda: Cuda | None = None,
) -> dict[str, Any]:
    """Build the engines of a bundle on this device; return `{bundle, device, tensorrt, remedies, engines}`.

    Engines that are there and fresh are kept. Each new one is compared with ONNX Runtime's answers that the bundle
    brings, and refused where it differs. Where the bundle brings our kernels, both ways are built and the faster kept.

    Args:
        bundle: its folder; engines are written to `engines/` in it.
        options: what is wanted.
        say: told each step.
        tell: told how far TensorRT is, as (done, total).
        trt: the module `tensorrt`, or one like it.
        cuda: CUDA's runtime.

    Raises:
        BundleError: the bundle is damaged, or its ONNX was edited after the export.
        EngineError: TensorRT or a GPU is absent or unfit, a build fails, or an engine answers otherwise.
        KeyboardInterrupt: Ctrl-C; engines that were finished before stay.
    """
    options = _checked(options or Options())
    site = _site(Path(bundle), options, say or _nobody, tell or _nothing, trt, cuda)
    options = replace(options, refit=options.refit or _adapters(site))
    done = remedies.apply(site.here, library.version_of(site.trt))
    for sentence in done:
        site.say(sentence)
    rows = [row for part in PARTS if site.manifest.parts[part] for row in _build_part(site, part, options)]
    return {
        "bundle": str(bundle),
        "device": {
            "name": site.device.name,
            "capability": site.device.capability,
            "memory_mib": site.device.memory // MIB,
        },
        "tensorrt": site.here.tensorrt,
        "remedies": done,
        "engines": rows,
    }


def _adapters(site: Site) -> dict[str, tuple[str, ...]]:
    """Return the weights in which the adapters of a bundle differ, for each part; none where it has but one."""
    if not site.manifest.adapters:
        return {}
    tensors = read_adapter(site.folder, site.manifest, next(iter(site.manifest.adapters)))
    return {part: tuple(sorted(arrays)) for part, arrays in tensors.items()}


def _checked(options: Options) -> Options:
    if options.plugins not in get_args(Plugins):
        raise UserError(f"no way {options.plugins!r} for our kernels; known: {', '.join(get_args(Plugins))}")
    if not options.batches or min(options.batches) < 1:
        raise UserError(f"--batch {min(options.batches, default=0)} is no size: give 1 or more")
    return replace(options, batches=tuple(sorted(set(options.batches))))


def _site(folder: Path, options: Options, say: Say, tell: Tell, trt: Any, cuda: Cuda | None) -> Site:
    manifest = Manifest.load(folder)
    trt, cuda = library.check(trt) if trt else library.load(), cuda or Cuda()
    check_opset(trt, manifest)
    for name in filter(None, manifest.parts.values()):
        check_own_weights(folder / name)
    device = cuda.device()
    check_precision(device.capability, manifest)
    here = Here(device.name, device.capability, trt.__version__)
    allowed = budget(device.memory, cuda.free(), options.workspace_mib, options.level)
    kernels = read_kernels(folder, manifest, device.capability)
    known = answers.read_answers(folder, manifest)
    return Site(folder, manifest, trt, cuda, device, here, kernels, known, allowed, say, tell)


def _build_part(site: Site, part: str, options: Options) -> Iterator[dict[str, Any]]:
    for batch in options.batches:
        refit = options.refit.get(part, ())
        kept = None if options.again else _fresh(site, part, batch, options.plugins, refit)
        plan = kept or _keep(site, _best(site, part, batch, options.plugins, refit))
        site.say(_sentence(plan, kept is not None))
        yield {"part": part, "batch": batch, "built": kept is None, "plugin": plan.key.plugins, **_figures(plan)}


def _fresh(site: Site, part: str, batch: int, wanted: Plugins, refit: tuple[str, ...]) -> Plan | None:
    """Return the engine that is there, if nothing it depends on has changed and its file is whole."""
    for plan in read_plans(site.folder):
        k = plan.key
        same = plan.part == part and k.batch == batch and k.refit == refit
        if same and _as_asked(site, plan, wanted, refit) and not stale(plan, site.manifest, site.here):
            try:
                check_file(site.folder, plan)
            except EngineError as error:
                site.say(f"{error}; it is built again")
                return None
            return plan
    return None


def _as_asked(site: Site, plan: Plan, wanted: Plugins, refit: tuple[str, ...]) -> bool:
    """Is our kernels' place in an engine what is wanted, by a measurement of the kernels that the bundle has now?"""
    if wanted != "measure":
        return plan.key.plugins == (wanted == "on")
    return bool(_no_plugins(site, plan.part, wanted, refit)) or plan.plugins.get("kernels") == _kernels_hash(site)


def _best(site: Site, part: str, batch: int, wanted: Plugins, refit: tuple[str, ...]) -> Built:
    """Return the faster of the engines with and without our kernels, or the one that is asked for or possible."""
    why_not = _no_plugins(site, part, wanted, refit)
    if wanted == "on":
        if why_not:
            raise EngineError(f"our kernels cannot be in the {part} engine ({why_not}): build with --plugins measure")
        return _one(site, part, batch, True)
    plain = _one(site, part, batch, False, refit)
    if why_not:
        return replace(plain, plan=replace(plain.plan, plugins={"tried": False, "why": why_not}))
    try:
        ours = _one(site, part, batch, True)
    except EngineError as error:
        site.say(f"without our kernels: {error}")
        tried = {"tried": True, "why": str(error), "kernels": _kernels_hash(site)}
        return replace(plain, plan=replace(plain.plan, plugins=tried))
    return _faster(site, ours, plain)


def _no_plugins(site: Site, part: str, wanted: Plugins, refit: tuple[str, ...]) -> str | None:
    """Return why our kernels are not tried, or None."""
    if wanted == "off":
        return "not wanted"
    if refit:
        return "its weights are exchanged later, which is not verified with plugins"
    if not library.has_plugins(library.version_of(site.trt)):
        return f"TensorRT {site.here.tensorrt} takes none, 10.9 and later do"
    if not _nodes(site, part):
        return f"the bundle has none for sm_{site.here.capability} in this part"
    return None


def _nodes(site: Site, part: str) -> list[str]:
    """Return the operators of a part that the bundle has kernels for."""
    path = site.folder / str(site.manifest.parts[part])
    return [name for name in sorted({kernel.node for kernel in site.kernels}) if mentions(path, name.encode())]


def _kernels_hash(site: Site) -> str:
    return site.manifest.files.get(KERNELS, "")


def _one(site: Site, part: str, batch: int, with_plugins: bool, refit: tuple[str, ...] = ()) -> Built:
    """Return one engine, built and proven.

    Raises:
        EngineError: it cannot be built or loaded, or answers otherwise than ONNX Runtime.
    """
    if with_plugins:
        plugins.register(site.trt, site.kernels)
    key = key_of(site.manifest, part, site.here, batch, with_plugins, refit)
    site.say(f"building the {part} engine for batch {batch}{' with our kernels' if with_plugins else ''}")
    order = order_of(site.folder, site.manifest, part, key, site.budget, site.timings())
    data, seconds = compile_engine(site.trt, order, site.cuda.free(), site.tell)
    engine, graph = _load(site, data, part, batch)
    with engine:
        parity = answers.compare(engine, site.manifest, part, site.answers)
        if not parity["passed"]:
            raise EngineError(
                f"{answers.refusal(part, batch, with_plugins, parity)}, so it was not kept: "
                "`vlseg doctor` names known faults of this TensorRT"
            )
        (taken,) = times([engine], full_batch(site.manifest, part, site.answers, batch))
    plan = Plan(part, "", "", key, len(data), round(seconds, 1), median(taken), graph, parity)
    return Built(data, plan)


def _load(site: Site, data: bytes, part: str, batch: int) -> tuple[TensorRT, bool]:
    return load(site.trt, site.cuda, site.manifest, data, part, batch, site.say)


def _faster(site: Site, ours: Built, plain: Built) -> Built:
    """Return the faster of two engines that both agreed, measured in turns."""
    part, batch = plain.plan.part, plain.plan.key.batch
    loaded = [_load(site, one.data, part, batch)[0] for one in (ours, plain)]
    try:
        mine, other = times(loaded, full_batch(site.manifest, part, site.answers, batch))
    finally:
        for engine in loaded:
            engine.close()
    ratio = paired_ratio(mine, other)
    with_kernels = ratio.median < 1
    figures = {"tried": True, "on_ms": median(mine), "off_ms": median(other), "ratio": round(ratio.median, 4)}
    figures |= {"low": round(ratio.low, 4), "high": round(ratio.high, 4), "pairs": ratio.pairs}
    figures |= {"kept": "on" if with_kernels else "off", "kernels": _kernels_hash(site)}
    chosen = ours if with_kernels else plain
    ms = figures["on_ms" if with_kernels else "off_ms"]
    return replace(chosen, plan=replace(chosen.plan, plugins=figures, ms=ms))


def _keep(site: Site, built: Built) -> Plan:
    """Write an engine whole, then the list that names it; engines that it replaces, and stale ones, leave."""
    plan = built.plan
    path = site.folder / site.place / f"{plan.part}-b{plan.key.batch}.plan"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, built.data)
    plan = replace(plan, file=path.relative_to(site.folder).as_posix(), sha256=sha256(path))
    others = [one for one in read_plans(site.folder) if one.file != plan.file]
    # engines of other devices stay where the bundle is shared, as long as its ONNX is the same
    onnx = {part: site.manifest.files[str(file)] for part, file in site.manifest.parts.items() if file}
    kept = [one for one in others if one.key.onnx == onnx.get(one.part)]
    write_plans(site.folder, [*kept, plan])
    for one in others:
        if one not in kept:
            (site.folder / one.file).unlink(missing_ok=True)
    return plan


def _figures(plan: Plan) -> dict[str, Any]:
    return {
        "file": plan.file,
        "bytes": plan.bytes,
        "seconds": plan.seconds,
        "ms": plan.ms,
        "graph": plan.graph,
        "plugins": plan.plugins,
        "parity": plan.parity,
    }


def _sentence(plan: Plan, kept: bool) -> str:
    found = plan.plugins
    ours = ""
    if "ratio" in found:
        ours = f", our kernels {found['kept']} (with / without {found['ratio']:.3f})"
    state = "is there already" if kept else f"built in {plan.seconds:.0f} s"
    return f"{plan.part}, batch {plan.key.batch}: {state}, {plan.ms:.2f} ms{ours}"


def _nobody(step: str) -> None:
    """Tell nobody."""


def _nothing(done: int, total: int) -> None:
    """Tell nothing."""
