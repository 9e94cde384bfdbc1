import pytest

from vlseg.deploy.tensorrt.log import KEPT, ear, first_error, node_of, plain, ran_out

from .fake_cuda import FakeCuda
from .fake_trt import FakeTensorRT


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for "
            "node {ForeignNode[a/b...c/d]}.)",
            "Could not find any implementation for node {ForeignNode[a/b...c/d]}",
        ),
        (
            "[graphShapeAnalyzer.cpp::analyzeShapes::2084] Error Code 4: Miscellaneous (IConvolutionLayer /conv: at "
            "least 4 dimensions are required for input.)",
            "IConvolutionLayer /conv: at least 4 dimensions are required for input",
        ),
        ("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (wrong magic tag)", "wrong magic tag"),
        ("[a.cpp::b::7] [c] Error Code 4: plain words", "plain words"),
        ("Nothing around it.", "Nothing around it"),
    ],
)  # fmt: skip
def test_what_surrounds_an_error_leaves(line, sentence):
    assert plain(line) == sentence


@pytest.mark.parametrize(
    ("line", "node"),
    [
        ("Could not find any implementation for node {ForeignNode[a...b]}.", "{ForeignNode[a...b]}"),
        ("In node 12 with name: /decoder/Resize", "12"),
        ("Error for node: /decoder/Resize, because", "/decoder/Resize"),
        ("no such thing", None),
    ],
)
def test_the_node_is_found(line, node):
    assert node_of(line) == node


def test_the_first_real_error_counts():
    consequence, cause = (True, "Engine could not be created at this time"), (True, "the cause.")
    assert first_error([(False, "warned"), consequence, cause]) == "the cause"
    assert first_error([cause, (True, "failed at node: /a/b")]) == "the cause (node /a/b)"
    assert first_error([consequence]) == "Engine could not be created at this time"
    assert first_error([(False, "warned")]) == "TensorRT gave no reason"


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        ("Cuda failure: out of memory", True),
        ("[buffer.cpp::resizePhysical::154] Error Code 2: OutOfMemory (Requested size was 12 bytes.)", True),
        ("Requested amount of GPU memory (1 bytes) could not be allocated.", True),
        ("Failed to allocate 3 bytes", True),
        ("Could not find any implementation for node x", False),
    ],
)  # fmt: skip
def test_memory_is_recognised(line, memory):
    assert ran_out([(True, line)]) == memory and not ran_out([(False, line)])


def test_the_ear_keeps_errors_and_warnings_and_forgets_old_ones():
    trt = FakeTensorRT("11.4.0.106", FakeCuda())
    heard, kinds = ear(trt), trt.ILogger.Severity
    heard.log(kinds.INFO, "info")
    heard.log(kinds.VERBOSE, "verbose")
    heard.log(kinds.WARNING, "warning")
    heard.log(kinds.INTERNAL_ERROR, "internal\n   error ")
    assert heard.lines == [(False, "warning"), (True, "internal error")]
    for i in range(2 * KEPT):
        heard.log(kinds.WARNING, str(i))
    assert len(heard.lines) == KEPT and heard.lines[-1] == (False, str(2 * KEPT - 1))
