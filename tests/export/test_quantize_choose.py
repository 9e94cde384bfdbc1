"""Which layer groups become eight-bit, on a bundle whose float answers are the yardstick."""

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import EngineError, UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export import targets
from vlseg.export.bundle import Options, export, export_model
from vlseg.export.calibration import COUNT, read_pictures
from vlseg.export.judge import Cost, choose, most_of
from vlseg.export.precision import PRECISIONS, check_calibration
from vlseg.export.quantize_choose import Choice, Yard


@pytest.fixture
def pictures():
    draw = np.random.default_rng(0)
    return [(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8), f"{one} spot") for one in ("red", "blue", "red")]


def test_what_hurts_by_itself_stays_and_then_the_worst_until_all_is_well():
    costs = {("image", "a"): Cost(0.999, 1e-4), ("image", "b"): Cost(0.9, 1e-4), ("image", "c"): Cost(0.998, 3e-3)}
    costs[("text", "d")] = Cost(1.0, 2e-3)
    asked = []

    def together(keys):
        asked.append(list(keys))
        return Cost(0.999, sum(costs[key].flipped for key in keys))

    assert choose(costs, together, "int8") == [("image", "a"), ("text", "d")]
    assert asked[0] == [("image", "a"), ("text", "d"), ("image", "c")] and len(asked) <= 3


def test_nothing_is_kept_where_everything_hurts():
    assert choose({("image", "a"): Cost(0.5, 0.2)}, lambda keys: Cost(1, 0), "int8") == []


@pytest.mark.parametrize("count", [0, 1, 5, 22])
def test_the_most_that_may_be_taken_is_found_by_halving(count):
    for most in range(count + 1):
        asked = []
        assert most_of(count, lambda n, most=most, asked=asked: asked.append(n) or n <= most) == most
        assert len(asked) <= 1 + count.bit_length()


def test_a_part_runs_again_only_where_something_changed(exported, pictures):
    folder = exported[1]
    with Yard(folder, Manifest.load(folder), pictures) as yard:
        assert yard.cost({}) == Cost(1.0, 0.0)
        assert len(yard.judge.feeds("image")) == 3 and len(yard.judge.feeds("text")) == 2
        choice = Choice(yard, "int8")
        assert {part for part, _ in choice.groups} == {"image", "text"}
        changed = choice.parts([("text", "layer 0 mlp")])
        assert set(changed) == {"text"}
        ran, engine_of = [], yard.judge._model.engine_of
        yard.judge._model.engine_of = lambda part: (ran.append(part), engine_of(part))[1]
        yard.cost(changed)
        assert set(ran) == {"decoder"}


def test_an_int8_bundle_says_what_every_group_cost(nano, info, same_graphs, pictures, tmp_path):
    said = []
    report = export_model(
        nano, info, tmp_path / "bundle", Options("int8", folds="none"), pictures=pictures, progress=said.append
    )
    manifest = Manifest.load(tmp_path / "bundle")
    assert report["quantised"] == manifest.quantised and manifest.precision == "int8"
    assert {record["part"] for record in manifest.quantised} == {"image", "text"}
    assert any(record["quantised"] for record in manifest.quantised)
    lines = [line for line in said if "least Dice" in line]
    assert len(lines) == len(manifest.quantised) and all("flipped" in line for line in lines)
    assert report["parity"]["passed"]


def test_nothing_of_a_picture_enters_the_bundle(nano, info, same_graphs, pictures, tmp_path):
    export_model(nano, info, tmp_path / "bundle", Options("int8", folds="none"), pictures=pictures)
    files = {path.name for path in (tmp_path / "bundle").rglob("*") if path.is_file()}
    parts = {"image.onnx", "text.onnx", "decoder.onnx", "tokenizer.json"}
    assert files == {*parts, "answers.npz", "manifest.json", "MODEL_CARD.md"}
    rows = [image[y].tobytes() for image, _ in pictures for y in (0, 20)]
    for name in files:
        data = (tmp_path / "bundle" / name).read_bytes()
        assert not any(row in data for row in rows)
        assert not any(prompt.encode() in data for _, prompt in pictures)


def test_fixed_prompts_leave_the_image_part_to_quantise(nano, info, same_graphs, pictures, tmp_path):
    asked = [(image, "a polyp") for image, _ in pictures]
    options = Options("int8", ("a polyp",), "none")
    export_model(nano, info, tmp_path / "bundle", options, pictures=asked)
    manifest = Manifest.load(tmp_path / "bundle")
    assert {record["part"] for record in manifest.quantised} == {"image"}
    with Segmenter.open(tmp_path / "bundle") as segmenter:
        assert segmenter.logits(pictures[0][0], "a polyp").shape == (32, 32)


@pytest.mark.parametrize("precision", [name for name, (_, bits) in PRECISIONS.items() if bits])
def test_eight_bits_want_pictures(precision):
    with pytest.raises(UserError, match=rf"{precision} is calibrated on pictures .*: give --calibrate DIR"):
        check_calibration(precision, False)
    check_calibration(precision, True)


def test_pictures_want_eight_bits():
    with pytest.raises(UserError, match=r"go with --precision int8, int8-fp16, fp8, not fp16: leave --calibrate out"):
        check_calibration("fp16", True)


def test_fp8_is_for_ada_and_newer(monkeypatch):
    monkeypatch.setattr(targets.rtx, "missing", lambda: None)
    targets.check_target("tensorrt-rtx", (89,), "fp8")
    with pytest.raises(UserError, match=r"sm_86 has no fp8, which starts with sm_89"):
        targets.check_target("tensorrt-rtx", (86,), "fp8")


def test_pictures_of_a_data_folder_are_of_its_training_split(drawn_data):
    pictures = read_pictures(drawn_data)
    assert len(pictures) == 8 and all(image.shape == (40, 40, 3) and prompt for image, prompt in pictures)
    assert {prompt for _, prompt in read_pictures(drawn_data, fixed_prompts=["a", "b"])} == {"a", "b"}


def test_pictures_of_a_plain_folder_are_spread(tmp_path):
    for i in range(40):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i:02}.png")
    pictures = read_pictures(tmp_path)
    reds = [int(image[0, 0, 0]) for image, _ in pictures]
    assert len(reds) <= COUNT and reds[0] == 0 and reds[-1] > 30


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "none", "is not a folder"),
        (lambda folder: folder, "holds no pictures"),
        (lambda folder: (folder / "broken.png").write_bytes(b"no picture") and folder, r"broken\.png"),
    ],
)
def test_a_folder_to_calibrate_on_that_is_none(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        read_pictures(make(tmp_path))


def test_bad_input_is_found_before_anything_is_done(trained_run, tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        export(trained_run, tmp_path / "bundle", precision="int8", calibrate=tmp_path / "none")
    with pytest.raises((UserError, EngineError)):
        export(trained_run, tmp_path / "bundle", precision="fp8", target="tensorrt-rtx", architectures=[75])
    assert not list(tmp_path.iterdir())
