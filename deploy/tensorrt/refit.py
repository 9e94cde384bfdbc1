"""Other weights into a built engine: those that it was built to let be exchanged, all of them or none.

Held to the names that TensorRT 10.3 to 11.4 have, against a stand-in; not run on a GPU.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import EngineError
from .log import first_error


def refit(trt: Any, engine: Any, tensors: Mapping[str, np.ndarray], heard: Any, what: str) -> None:
    """Exchange weights of an engine by the names of their ONNX initializers; no context may be running it.

    `heard` is the logger that the engine was loaded with, `what` names the engine in errors.

    Raises:
        EngineError: a weight that the engine has for good, or TensorRT refuses one; the engine is as it was before,
            unless the last step failed, and then must be closed.
    """
    refitter = trt.Refitter(engine, heard)
    free = set(refitter.get_all_weights())
    if fixed := sorted(tensors.keys() - free):
        raise EngineError(
            f"{what} has {fixed[0]} for good: build it again with the adapters' weights free, or use onnxruntime"
        )
    # TensorRT reads the memory when it refits, so it is held until then
    held = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    for name, array in held.items():
        if not refitter.set_named_weights(name, trt.Weights(array)):
            raise EngineError(f"{what} does not take {name} ({first_error(heard.lines)}): export the bundle again")
    if lacking := sorted(refitter.get_missing_weights()):
        raise EngineError(f"{what} wants {lacking[0]} together with these: export the bundle again")
    if not refitter.refit_cuda_engine():
        raise EngineError(f"{what} could not be refitted ({first_error(heard.lines)}): build it again")
