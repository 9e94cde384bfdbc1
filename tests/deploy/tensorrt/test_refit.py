"""Exchanging weights, against a stand-in that has no other names than TensorRT's own."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vlseg.deploy.errors import EngineError
from vlseg.deploy.tensorrt.refit import refit

NAMES = json.loads((Path(__file__).parent / "api.json").read_text())["names"]["Refitter"]["YYYYYY"].split()


class Engine:
    """An engine with weights, of which some may be exchanged; `pairs` go together."""

    def __init__(self, free, pairs=(), refuses=()):
        self.weights = {name: np.zeros(2, np.float32) for name in (*free, "frozen")}
        self.free, self.pairs, self.refuses = list(free), pairs, refuses


class Refitter:
    def __init__(self, engine, logger):
        self._engine, self._new = engine, {}

    def __getattribute__(self, name):
        if not name.startswith("_") and name not in NAMES:
            raise AssertionError(f"TensorRT's Refitter has no {name} in every version")
        return super().__getattribute__(name)

    def get_all_weights(self):
        return self._engine.free

    def set_named_weights(self, name, weights):
        self._new[name] = weights
        return name not in self._engine.refuses

    def get_missing_weights(self):
        return [b for a, b in self._engine.pairs if a in self._new and b not in self._new]

    def refit_cuda_engine(self):
        self._engine.weights.update(self._new)
        return "broken" not in self._new


TRT = SimpleNamespace(Refitter=Refitter, Weights=lambda array: array.copy())
HEARD = SimpleNamespace(lines=[])


def test_weights_are_exchanged_by_name():
    engine = Engine(["down", "up"])
    refit(TRT, engine, {"down": np.arange(2.0), "up": np.ones((4, 2))[:, 0]}, HEARD, "the image engine")
    assert engine.weights["down"].tolist() == [0, 1] and engine.weights["up"].flags.c_contiguous


def test_a_weight_that_stays_is_named_before_any_is_changed():
    engine = Engine(["down"])
    with pytest.raises(EngineError, match=r"the image engine has frozen for good: build it again"):
        refit(TRT, engine, {"down": np.ones(2), "frozen": np.ones(2)}, HEARD, "the image engine")
    assert not engine.weights["down"].any()


@pytest.mark.parametrize(
    ("engine", "tensors", "said"),
    [
        (Engine(["down", "up"], pairs=[("down", "up")]), {"down": np.ones(2)}, "wants up together with these"),
        (Engine(["down"], refuses=["down"]), {"down": np.ones(3)}, "does not take down"),
        (Engine(["broken"]), {"broken": np.ones(2)}, "could not be refitted"),
    ],
)
def test_what_tensorrt_refuses_is_told(engine, tensors, said):
    with pytest.raises(EngineError, match=said):
        refit(TRT, engine, tensors, HEARD, "the image engine")
