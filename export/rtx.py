"""Engines for RTX cards into a bundle, ahead of time: a plan for each part, and the ONNX file that ONNX Runtime opens.

ONNX Runtime's provider takes a built engine as a graph of one node, EPContext, that names the plan beside it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from onnx import helper

from ..deploy import rtx
from ..deploy.files import atomic_write
from ..deploy.manifest import Manifest
from ..deploy.rtx_plans import FOLDER, Entry, write_index
from .policy import IR_VERSION

PROVIDER = "NvTensorRTRTXExecutionProvider"


def add_engines(
    folder: Path, manifest: Manifest, architectures: Sequence[int], tell: Callable[[str], None]
) -> dict[str, Entry]:
    """Build an engine for every part of a bundle that is being written; the caller seals the manifest again.

    Raises:
        EngineError: no TensorRT-RTX, or a part that it cannot build.
    """
    version, wanted = rtx.load().__version__, rtx.check_architectures(architectures, manifest.precision)
    (folder / FOLDER).mkdir()
    entries = {}
    for part, file in manifest.parts.items():
        if file is None:
            continue
        plan = rtx.build(folder / file, manifest.axes[part], wanted)
        tell(_sentence(part, plan))
        names = {"plan": f"{FOLDER}/{part}.plan", "context": f"{FOLDER}/{part}.onnx"}
        atomic_write(folder / names["plan"], plan.data)
        onnx.save(context(onnx.load(folder / file), f"{part}.plan", plan.architectures), folder / names["context"])
        entries[part] = Entry(
            **names,
            onnx=manifest.files[file],
            architectures=list(plan.architectures),
            left_out={str(arch): why for arch, why in plan.left_out.items()},
            version=version,
            bytes=len(plan.data),
            seconds=round(plan.seconds, 3),
        )
    write_index(folder, entries)
    return entries


def context(model: onnx.ModelProto, plan: str, architectures: Sequence[int]) -> onnx.ModelProto:
    """Return a graph with the inputs and outputs of `model` whose only node is the engine in file `plan` beside it."""
    graph = model.graph
    node = helper.make_node(
        "EPContext",
        [value.name for value in graph.input],
        [value.name for value in graph.output],
        domain="com.microsoft",
        main_context=1,
        embed_mode=0,
        ep_cache_context=plan,
        source=PROVIDER,
        hardware_architecture=",".join(map(str, architectures)),
        partition_name=graph.name,
    )
    made = helper.make_graph([node], graph.name, graph.input, graph.output)
    opsets = [*(one for one in model.opset_import if not one.domain), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vlseg")


def _sentence(part: str, plan: rtx.Plan) -> str:
    cards = ", ".join(f"sm_{arch}" for arch in plan.architectures)
    without = "".join(f"; not for sm_{arch}: {why}" for arch, why in plan.left_out.items())
    return f"built the {part} engine for {cards} ({len(plan.data) >> 20} MiB in {plan.seconds:.1f} s){without}"
