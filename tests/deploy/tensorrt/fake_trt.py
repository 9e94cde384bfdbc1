"""TensorRT for tests: a builder whose engines are ONNX Runtime sessions, with the names of one real version alone.

Whatever the product asks of an object that this version's bindings do not have (`api.json`) is an AttributeError, as
it would be on the device.
"""

import ctypes
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import inliner

API = json.loads((Path(__file__).parent / "api.json").read_text())
VERSIONS = API["versions"]
MAGIC = b"fakeplan"


def names_of(kind: str, version: str) -> set[str]:
    """Return the names that a class (or the module, `tensorrt`) has in a version."""
    column = VERSIONS.index(version)
    return {name for mask, names in API["names"][kind].items() if mask[column] == "Y" for name in names.split()}


class Strict:
    """An object of TensorRT's: only what its class has in this version can be read or set."""

    def __init__(self, kind: str, version: str, target: Any):
        object.__setattr__(self, "_parts", (kind, names_of(kind, version), target))

    def __getattr__(self, name: str) -> Any:
        kind, names, target = object.__getattribute__(self, "_parts")
        if name not in names:
            raise AttributeError(f"{kind} has no {name} in this TensorRT")
        return getattr(target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        kind, names, target = object.__getattribute__(self, "_parts")
        if name == "__class__":
            raise TypeError("not here")
        if name not in names:
            raise AttributeError(f"{kind} has no {name} in this TensorRT")
        setattr(target, name, value)

    def __bytes__(self) -> bytes:
        return bytes(object.__getattribute__(self, "_parts")[2].data)


def inside(strict: Strict) -> Any:
    return object.__getattribute__(strict, "_parts")[2]


def enum(kind: str, version: str) -> Any:
    """Return an enum with the names of this version; each is an int."""
    return types.SimpleNamespace(**{name: i for i, name in enumerate(sorted(names_of(kind, version)))})


_KINDS = {1: ("FLOAT", np.float32), 7: ("INT64", np.int64), 9: ("BOOL", np.bool_), 10: ("HALF", np.float16)}


class FakeTensorRT(types.ModuleType):
    """The module `tensorrt` of one version, on one fake GPU.

    Attributes:
        wrong: parts (by the name of a graph) whose engines answer wrongly; `plugins` for those with plugins.
        says: lines that a failing build leaves behind, as (severity name, text); empty: builds succeed.
        registered: nodes that are plugins.
        used: nodes that became plugins, engine by engine.
        steps: called before each step of a build, to press Ctrl-C.
        slow: seconds that an engine with plugins (True) and without (False) takes longer.
    """

    def __init__(self, version: str, cuda: Any):
        super().__init__("tensorrt")
        self.__version__, self.cuda = version, cuda
        self.wrong: set[str] = set()
        self.says: list[tuple[str, str]] = []
        self.registered: set[str] = set()
        self.used: list[list[str]] = []
        self.built: list[dict] = []
        self.steps: Any = None
        self.refitted = 0
        self.slow = {True: 0.0, False: 0.0}
        for kind in ("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "ProfilingVerbosity",
                     "TensorIOMode", "DataType", "LayerType"):  # fmt: skip
            setattr(self, kind, enum(kind, version))
        severity = types.SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)
        self.ILogger = type("ILogger", (), {"Severity": severity, "__init__": lambda self: None})
        self.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
        self.nptype = lambda kind: {getattr(self.DataType, name): dtype for name, dtype in _KINDS.values()}[kind]

    def strict(self, kind: str, target: Any) -> Strict:
        return Strict(kind, self.__version__, target)

    def Builder(self, logger):
        return self.strict("Builder", FakeBuilder(self, logger))

    def OnnxParser(self, network, logger):
        return self.strict("OnnxParser", FakeParser(self, inside(network), logger))

    def Weights(self, array):
        return array

    def Refitter(self, engine, logger):
        return self.strict("Refitter", FakeRefitter(self, inside(engine), logger))

    def Runtime(self, logger):
        return self.strict("Runtime", FakeRuntime(self, logger))


class FakeBuilder:
    def __init__(self, trt, logger):
        self.trt, self.logger = trt, logger

    def create_network(self, flags):
        assert flags >> self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED & 1, "types are those of the graph"
        return self.trt.strict("INetworkDefinition", FakeNetwork(self.trt))

    def create_builder_config(self):
        return self.trt.strict("IBuilderConfig", FakeConfig(self.trt))

    def create_optimization_profile(self):
        return self.trt.strict("IOptimizationProfile", FakeProfile())

    def build_serialized_network(self, network, config):
        network, config, trt = inside(network), inside(config), self.trt
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 3)
        monitor.phase_start("Timing", "Building", 50)
        for step in range(3):
            if trt.steps:
                trt.steps(step)
            if not monitor.step_complete("Building", step) or not monitor.step_complete("Timing", step):
                return None
        monitor.phase_finish("Timing")
        monitor.phase_finish("Building")
        if trt.says:
            for severity, text in trt.says:
                self.logger.log(getattr(trt.ILogger.Severity, severity), text)
            return None
        shapes = {tensor.name: list(tensor.shape) for tensor in network.inputs}
        assert all(size > 0 for shape in shapes.values() for size in shape), "every shape is static"
        assert {name: [list(s) for s in three] for name, three in config.profile.shapes.items()} == {
            name: [shape] * 3 for name, shape in shapes.items()
        }
        trt.used.append(network.plugins)
        head = {"version": trt.__version__, "device": trt.cuda.name, "shapes": shapes, "plugins": network.plugins}
        head["refit"] = network.refit
        trt.built.append({**head, "level": config.builder_optimization_level, "pools": config.pools,
                          "flags": config.flags, "cache": config.cache.data, "refit": network.refit})  # fmt: skip
        config.cache.data += b"timing of " + network.name.encode() + b";"
        text = json.dumps(head).encode()
        body = network.model.SerializeToString()
        data = MAGIC + len(text).to_bytes(4, "big") + len(body).to_bytes(8, "big") + text + body
        return trt.strict("IHostMemory", types.SimpleNamespace(data=data, nbytes=len(data)))


class FakeNetwork:
    def __init__(self, trt):
        self.trt, self.inputs, self.plugins, self.refit = trt, [], [], []
        self.num_layers = 1

    @property
    def num_inputs(self):
        return len(self.inputs)

    def get_input(self, i):
        return self.trt.strict("ITensor", self.inputs[i])

    def get_layer(self, i):
        return self.trt.strict("ILayer", types.SimpleNamespace(type=-1, name="layer"))

    def mark_weights_refittable(self, name):
        known = name in {tensor.name for tensor in self.model.graph.initializer}
        self.refit += [name] * known
        return known


class FakeParser:
    def __init__(self, trt, network, logger):
        self.trt, self.network, self.errors = trt, network, []

    @property
    def num_errors(self):
        return len(self.errors)

    def get_error(self, i):
        return self.trt.strict("ParserError", self.errors[i])

    def parse_from_file(self, path):
        return self.parse(Path(path).read_bytes(), path)

    def parse(self, content, path=None):
        """Choose as the real parser does: a plugin by the node's attribute, else the function."""
        network = self.network
        network.model = model = onnx.load_from_string(content)
        network.name = model.graph.name
        for node in model.graph.node:
            named = [a for a in node.attribute if a.name == "plugin_namespace"]
            if named and f"{named[0].s.decode()}::{node.op_type}" in self.trt.registered:
                network.plugins.append(node.op_type)
            if node.op_type == "Unreadable":
                methods = {
                    "desc": "no importer registered.",
                    "node_name": "/layers.3/odd",
                    "node_operator": "Unreadable",
                }
                self.errors.append(types.SimpleNamespace(**{k: lambda v=v: v for k, v in methods.items()}))
        weights = {tensor.name for tensor in model.graph.initializer}
        for value in model.graph.input:
            if value.name in weights:  # an initializer that a run may replace is a weight here
                continue
            dims = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
            network.inputs.append(types.SimpleNamespace(name=value.name, shape=dims))
        return not self.errors


class FakeProfile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, least, usual, most):
        self.shapes[name] = (least, usual, most)


class FakeCache:
    def __init__(self, data):
        self.data = data

    def serialize(self):
        return self.data


class FakeConfig:
    def __init__(self, trt):
        self.trt, self.pools, self.flags, self.profile, self.cache = trt, {}, {trt.BuilderFlag.TF32}, None, None
        self.builder_optimization_level = self.progress_monitor = self.profiling_verbosity = None

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool] = size

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def add_optimization_profile(self, profile):
        self.profile = inside(profile)

    def create_timing_cache(self, data):
        return self.trt.strict("ITimingCache", FakeCache(data))

    def set_timing_cache(self, cache, ignore_mismatch):
        if inside(cache).data.startswith(b"damaged"):
            return False
        self.cache = inside(cache)
        return True

    def get_timing_cache(self):
        return self.trt.strict("ITimingCache", self.cache)


class FakeRuntime:
    def __init__(self, trt, logger):
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, data):
        def refuse(why):
            where = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization"
            self.logger.log(self.trt.ILogger.Severity.ERROR, f"{where} ({why})")

        if not data.startswith(MAGIC) or len(data) < 20:
            return refuse("Magic tag does not match")
        size, body = int.from_bytes(data[8:12], "big"), int.from_bytes(data[12:20], "big")
        if len(data) != 20 + size + body:
            return refuse("the plan is truncated")
        head = json.loads(data[20 : 20 + size])
        if (head["version"], head["device"]) != (self.trt.__version__, self.trt.cuda.name):
            return refuse("Version tag does not match")
        return self.trt.strict("ICudaEngine", FakeEngine(self.trt, head, data[20 + size :]))


class FakeEngine:
    def __init__(self, trt, head, content):
        self.trt, self.head = trt, head
        self.model = model = onnx.load_from_string(content)
        self.name = model.graph.name
        self.load()
        self.ends = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.kinds = {
            value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)
        }
        zeros = {
            i.name: np.zeros(head["shapes"][i.name], _KINDS[self.kinds[i.name]][1]) for i in self.session.get_inputs()
        }
        self.shapes = dict(head["shapes"])
        self.shapes |= {
            o.name: list(a.shape)
            for o, a in zip(self.session.get_outputs(), self.session.run(None, zeros), strict=True)
        }
        self.num_io_tensors = len(self.ends)

    def load(self):
        # with plugins or without, the meaning is the function's
        inlined = inliner.inline_local_functions(self.model)
        self.session = onnxruntime.InferenceSession(inlined.SerializeToString())

    def get_tensor_name(self, i):
        return self.ends[i].name

    def get_tensor_mode(self, name):
        return self.trt.TensorIOMode.INPUT if name in self.head["shapes"] else self.trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def get_tensor_dtype(self, name):
        return getattr(self.trt.DataType, _KINDS[self.kinds[name]][0])

    def create_execution_context(self):
        return self.trt.strict("IExecutionContext", FakeContext(self))


class FakeRefitter:
    def __init__(self, trt, engine, logger):
        self.trt, self.engine, self.logger, self.given = trt, engine, logger, {}

    def set_named_weights(self, name, weights):
        if name not in self.engine.head["refit"]:
            self.logger.log(self.trt.ILogger.Severity.ERROR, f"Weights {name} are not refittable.")
            return False
        self.given[name] = weights
        return True

    def refit_cuda_engine(self):
        for tensor in self.engine.model.graph.initializer:
            if tensor.name in self.given:
                tensor.CopyFrom(onnx.numpy_helper.from_array(self.given[tensor.name], tensor.name))
        self.engine.load()
        self.trt.refitted += 1
        return True


class FakeContext:
    def __init__(self, engine):
        self.engine, self.addresses = engine, {}

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        trt = self.engine.trt
        trt.cuda.streams[stream].queue(self._work)
        return True

    def _array(self, name):
        engine = self.engine
        shape, dtype = engine.shapes[name], np.dtype(_KINDS[engine.kinds[name]][1])
        block = engine.trt.cuda.device[self.addresses[name]]
        return np.frombuffer(block, dtype, int(np.prod(shape))).reshape(shape)

    def _work(self):
        engine = self.engine
        trt, plugins = engine.trt, bool(engine.head["plugins"])
        inputs = {name: self._array(name).copy() for name in engine.head["shapes"]}
        for output, answer in zip(engine.session.get_outputs(), engine.session.run(None, inputs), strict=True):
            if engine.name in trt.wrong or (plugins and "plugins" in trt.wrong):
                answer = answer + 3 * answer.std() + 1
            array = self._array(output.name)
            ctypes.memmove(array.ctypes.data, np.ascontiguousarray(answer).ctypes.data, array.nbytes)
        if trt.slow[plugins]:
            import time

            time.sleep(trt.slow[plugins])


class FakePlugins(types.ModuleType):
    """The module `tensorrt.plugin`: it remembers what becomes a plugin."""

    def __init__(self, trt: FakeTensorRT):
        super().__init__("tensorrt.plugin")
        self.trt = trt
        for name in ("TensorDesc", "AutoTuneCombination", "KernelLaunchParams", "SymExprs"):
            setattr(self, name, type(name, (), {}))
        self.functions: dict[str, list[Any]] = {}

    def register(self, name, lazy_register=False):
        assert name not in self.trt.registered, "TensorRT refuses a plugin that is there"
        self.trt.registered.add(name)
        return self._keep(name)

    def _keep(self, name):
        def keep(function):
            self.functions.setdefault(name, []).append(function)
            return function

        return keep

    autotune = aot_impl = _keep
