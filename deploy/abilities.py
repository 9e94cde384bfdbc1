"""What a machine's facts allow: precisions of its GPU, and the way in which our kernels can be used."""

from .facts import Facts, version_numbers

KERNEL_ARCHITECTURES = (80, 86, 87, 89, 90, 100, 110, 120)
"""Compute capabilities that the operators' kernels are compiled for and held to."""

_AHEAD_OF_TIME = (10, 9)


def precisions(facts: Facts) -> list[str]:
    """Return the precisions that run natively: of the first GPU where there is one, else of the CPU."""
    capability = capability_of(facts)
    return ["fp32", "int8"] if capability is None else precisions_of(capability)


def precisions_of(capability: int) -> list[str]:
    """Return the precisions that a GPU of this compute capability, 87 for 8.7, has units for."""
    found = ["fp32", "fp16"] if capability >= 70 else ["fp32"]
    # integer matrix units came with Xavier and Turing, eight-bit floats with Ada
    found += ["int8"] if capability >= 72 else []
    return found + (["fp8"] if capability >= 89 else [])


def plugin_route(facts: Facts) -> dict[str, str]:
    """Return `{route, why}`: how TensorRT would run our operators here, `plugin`, `function` or `none`."""
    capability = capability_of(facts)
    if facts.tensorrt is None or capability is None:
        lacks = "TensorRT" if facts.tensorrt is None else "NVIDIA GPU"
        return {"route": "none", "why": f"no {lacks} here; ONNX Runtime runs the operators as functions"}
    if version_numbers(facts.tensorrt) < _AHEAD_OF_TIME:
        return {"route": "function", "why": f"TensorRT {facts.tensorrt} takes no ahead-of-time plugins, 10.9 does"}
    if capability not in KERNEL_ARCHITECTURES:
        return {"route": "function", "why": f"the kernels are not made for sm_{capability}"}
    return {"route": "plugin", "why": "`vlseg build` measures both ways, and keeps the faster"}


def capability_of(facts: Facts) -> int | None:
    """Return the compute capability of the first GPU, 87 for 8.7, or None where nobody tells."""
    told = facts.gpus[0]["compute_cap"] if facts.gpus else None
    return int(str(told).replace(".", "")) if told else None
