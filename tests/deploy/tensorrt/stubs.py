"""Three C libraries that let TensorRT's real Python bindings load on a machine without TensorRT.

They hold the few symbols that the bindings ask the linker for, found by reading the undefined symbols of the module;
none does anything.
"""

import re
import shutil
import subprocess
from pathlib import Path

LIBRARIES = {
    "nvinfer": (
        "void *createInferBuilder_INTERNAL(void *logger, int version) { return 0; }\n"
        "void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return 0; }\n"
        "void *createInferRuntime_INTERNAL(void *logger, int version) { return 0; }\n"
        "void *getBuilderPluginRegistry(int capability) { return 0; }\n"
        "void *getPluginRegistry(void) { return 0; }\n"
        "int getInferLibVersion(void) { return 0; }\n"
    ),
    "nvonnxparser": (
        "void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return 0; }\n"
        "void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return 0; }\n"
        "int getNvOnnxParserVersion(void) { return 0; }\n"
    ),
    "nvinfer_plugin": "int initLibNvInferPlugins(void *logger, const char *name) { return 1; }\n",
}


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def make_stubs(folder: Path, major: str) -> Path:
    """Compile the libraries of one major version of TensorRT into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in LIBRARIES.items():
        path = folder / f"{name}.c"
        path.write_text(source)
        target = f"lib{name}.so.{major}"
        command = [str(compiler()), "-shared", "-fPIC", f"-Wl,-soname,{target}", "-o", str(folder / target), str(path)]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def unpack(version: str, folder: Path, python: str) -> Path:
    """Fetch the bindings of one version from the package index and return the folder that imports as `tensorrt`."""
    cuda = "cu13" if version.startswith("11") else "cu12"
    wheel = f"tensorrt-{cuda}-bindings=={version}"
    target = folder / version
    command = [python, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), wheel]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (target / "tensorrt").mkdir()
    found = (target / "tensorrt_bindings" / "__init__.py").read_text()
    # the bindings are one of several parts of the package; alone, they are the package
    for path in (target / "tensorrt_bindings").iterdir():
        shutil.move(str(path), target / "tensorrt" / path.name)
    assert re.search(r'__version__ = "' + re.escape(version), found)
    return target
