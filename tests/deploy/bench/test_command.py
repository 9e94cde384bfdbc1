"""`vlseg bench` through the door."""

import csv
import json
import signal
import subprocess
import sys

import pytest

WARM = ("--no-cold", "--repeats", 2, "--warmup", 1, "--threads", 1)


def test_json_alone_on_stdout_and_everything_written(door, toy_bundle, fixed_bundle, tmp_path):
    files = {name: tmp_path / name for name in ("rows.csv", "page.html", "plot.svg", "times.json")}
    said = door(
        *("bench", toy_bundle, fixed_bundle, *WARM, "--batch", 1, "--batch", 2, "--explain", "--json"),
        *("--csv", files["rows.csv"], "--html", files["page.html"], "--plot", files["plot.svg"]),
        *("--trtexec-json", files["times.json"]),
    )
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert {"device", "rows", "ratios"} <= set(report) and len(report["protocol"]) == len(report["rows"]) == 21
    assert all(path.is_file() and str(path) in said.err for name, path in files.items() if name != "rows.csv")
    with open(files["rows.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21 and {row["threads"] for row in rows} == {"1"} and all(row["cpu"] for row in rows)
    assert len(json.loads(files["times.json"].read_text())) == 2


def test_the_text_names_subjects_stages_and_ratios(door, toy_bundle, fixed_bundle):
    said = door("bench", toy_bundle, fixed_bundle, *WARM, "--against", "fixed", "--profile", "--explain")
    assert said.code == 0, said.err
    assert "toy on onnxruntime / fixed on onnxruntime, end_to_end, batch 1:" in said.out
    assert "toy on onnxruntime: file to mask over the engine alone" in said.out
    assert "postprocess" in said.out and "what: from the file on disk" in said.out


def test_sustained_load_is_a_row_of_its_own(door, toy_bundle, tmp_path):
    said = door("bench", toy_bundle, *WARM, "--duration", 0.2, "--csv", tmp_path / "rows.csv", "--json")
    assert said.code == 0, said.err
    (load,) = json.loads(said.out)["sustained"]
    with open(tmp_path / "rows.csv", newline="") as file:
        *_, short, row = csv.DictReader(file)
    assert (short["stage"], row["stage"], row["warmup"]) == ("end_to_end", "sustained", "0")
    assert float(row["p50_ms"]) == load["p50_ms"] and float(row["images_per_s"]) == 1000 / load["mean_ms"]
    assert row["steady"] == str(not load["flags"]) and load["runs"] == sum(one["runs"] for one in load["buckets"])


def test_an_adapter_is_a_column_where_a_bundle_has_several(door, adapters):
    said = door("bench", adapters, *WARM, "--adapter", "swapped", "--explain")
    assert said.code == 0, said.err
    assert "adapter" in said.out.splitlines()[0] and "swapped" in said.out.splitlines()[2]
    assert "toy with adapter swapped on onnxruntime, fp32, engine" in said.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--engine", "nope"), "no engine 'nope'; known: auto"),
        (("--engine", "torch"), "--engine torch runs a run"),
        (("--against", "nobody"), "--against 'nobody' is not measured here; known: toy:onnxruntime"),
        (("--adapter", "skin"), "no bundle here has several adapters: leave --adapter skin out"),
        (("--repeats", 0), "has a count below 1"),
        (("--batch", 0), "has a count below 1"),
        (("--image", "none.png"), "no image file none.png"),
        (("--data", "nowhere"), "nowhere"),
        (("--duration", -1), "--duration -1"),
        (("--html", "nowhere/page.html"), "nowhere"),
        (("--csv", "/proc/rows.csv"), "cannot write /proc/rows.csv"),  # not even root may
        (("--plot", "/proc"), "/proc is a folder, expected a file"),
    ],
)
def test_bad_input_is_one_sentence(door, toy_bundle, words, says):
    said = door("bench", toy_bundle, *WARM, *words)
    assert said.code == 2 and said.out == ""
    assert says in said.err and "Traceback" not in said.err


def test_ctrl_c_ends_in_a_sentence_and_leaves_no_file(toy_bundle, tmp_path):
    files = ("--csv", tmp_path / "rows.csv", "--html", tmp_path / "page.html")
    words = ["bench", toy_bundle, *WARM, "--duration", 600, *files]
    # a process whose shell started it in the background would be deaf to SIGINT
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from vlseg.cli.door import main\nmain()"
    going = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stderr=subprocess.PIPE, text=True)
    assert going.stderr is not None
    next(line for line in going.stderr if "round" in line)
    going.send_signal(signal.SIGINT)
    said = going.communicate(timeout=60)[1]
    assert (going.returncode, said.splitlines()[-1]) == (130, "vlseg: interrupted") and "Traceback" not in said
    assert not [path.name for path in tmp_path.iterdir() if path.is_file()]


def test_an_engine_that_is_not_here_says_the_way_out(door, toy_bundle):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    said = door("bench", toy_bundle, *WARM, "--engine", "onnxruntime-cuda")
    assert said.code == 2 and "no CUDAExecutionProvider" in said.err


def test_a_newer_bundle_is_named(door, toy_bundle):
    path = toy_bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    said = door("bench", toy_bundle, *WARM)
    assert said.code == 2 and "manifest schema 99" in said.err


def test_a_path_out_of_the_bundle_is_refused(door, toy_bundle):
    path = toy_bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../secret"] = "0" * 64
    path.write_text(json.dumps(manifest))
    said = door("bench", toy_bundle, *WARM)
    assert said.code == 2 and "'../secret', which is outside the bundle" in said.err
