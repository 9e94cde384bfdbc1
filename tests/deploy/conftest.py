"""A toy bundle in ONNX whose mask follows the colour that the prompt names, so that answers can be known by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from vlseg.deploy.adapters import file_of, write_adapter
from vlseg.deploy.manifest import Manifest, fixed_file

FIXED_TEXT = fixed_file("text_embedding")
SIDE = 16
WORDS = ["<s>", "</s>", "?", "red", "green", "blue", "round", "spot"]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
AXES = {
    "image": {
        "pixel_values": ["batch", 3, SIDE, SIDE],
        "image_embedding": ["batch", 3, SIDE * SIDE, 3],
    },
    "text": {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "text_embedding": ["batch", 2, 3],
    },
    "decoder": {
        "image_embedding": ["batch", 3, SIDE * SIDE, 3],
        "text_embedding": ["batch", 2, 3],
        "logits": ["batch", 1, SIDE, SIDE],
    },
}


def text_table() -> np.ndarray:
    """Return (words, 6): FiLM mul, then add; only the colours do anything."""
    table = np.zeros((len(WORDS), 6), np.float32)
    for i, word in enumerate(("red", "green", "blue")):
        table[WORDS.index(word), i] = 4
        table[WORDS.index(word), 3:] = -1 / 3
    return table


def _constant(name: str, value, dtype=np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def _save(path: Path, part: str, nodes, constants, inputs, outputs) -> None:
    def infos(names):
        kinds = {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64}
        return [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), AXES[part][n]) for n in names]

    graph = helper.make_graph(nodes, part, infos(inputs), infos(outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def save_parts(folder: Path) -> None:
    """Write image.onnx, text.onnx and decoder.onnx."""
    node = helper.make_node
    _save(
        folder / "image.onnx",
        "image",
        [
            node("Reshape", ["pixel_values", "flat"], ["rows"]),
            node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
            node("Unsqueeze", ["tokens", "one"], ["level"]),
            node("Concat", ["level", "level", "level"], ["image_embedding"], axis=1),
        ],
        [_constant("flat", [0, 3, -1]), _constant("one", [1])],
        ["pixel_values"],
        ["image_embedding"],
    )
    _save(
        folder / "text.onnx",
        "text",
        [
            node("Gather", ["table", "input_ids"], ["words"]),
            node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["mask", "last"], ["column"]),
            node("Mul", ["words", "column"], ["seen"]),
            node("ReduceSum", ["seen", "one"], ["sum"], keepdims=0),
            node("Reshape", ["sum", "film"], ["text_embedding"]),
        ],
        [
            numpy_helper.from_array(text_table(), "table"),
            _constant("last", [2]),
            _constant("one", [1]),
            _constant("film", [0, 2, 3]),
        ],
        ["input_ids", "attention_mask"],
        ["text_embedding"],
    )
    _save(
        folder / "decoder.onnx",
        "decoder",
        [
            node("ReduceMean", ["image_embedding", "one"], ["tokens"], keepdims=0),
            node("Split", ["text_embedding"], ["mul", "add"], axis=1, num_outputs=2),
            node("Mul", ["tokens", "mul"], ["scaled"]),
            node("Add", ["scaled", "add"], ["film"]),
            node("ReduceSum", ["film", "two"], ["flat"], keepdims=0),
            node("Reshape", ["flat", "square"], ["logits"]),
        ],
        [_constant("one", [1]), _constant("two", [2]), _constant("square", [0, 1, SIDE, SIDE])],
        ["image_embedding", "text_embedding"],
        ["logits"],
    )


def tokenizer_json() -> str:
    """Return a word tokenizer with begin and end tokens, lower-casing."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer.to_str()


def toy_manifest(**changes) -> Manifest:
    fields = {
        "name": "toy",
        "method": "toy/film",
        "size": "toy",
        "image_size": SIDE,
        "mean": MEAN,
        "std": STD,
        "threshold": 0.5,
        "parts": {"image": "image.onnx", "text": "text.onnx", "decoder": "decoder.onnx"},
        "axes": AXES,
        "parity": {"passed": True, "judged_by": "masks", "dice_min": 1.0, "flipped_share": 0.0},
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def toy_bundle(tmp_path) -> Path:
    """A bundle that finds what is red, green or blue."""
    folder = tmp_path / "toy"
    folder.mkdir()
    save_parts(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    toy_manifest().save(folder)
    return folder


@pytest.fixture
def adapters(toy_bundle) -> Path:
    """The toy with adapter `plain`, and `swapped`, in which red is called green and green red."""
    manifest, model = Manifest.load(toy_bundle), onnx.load(toy_bundle / "text.onnx")
    (constant,) = [one for one in model.graph.initializer if one.name == "table"]
    table = numpy_helper.to_array(constant)
    model.graph.input.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, list(table.shape)))
    onnx.save(model, toy_bundle / "text.onnx")
    swapped = table.copy()
    swapped[[WORDS.index("red"), WORDS.index("green")]] = table[[WORDS.index("green"), WORDS.index("red")]]
    entries = {}
    for name, values, threshold in (("plain", table, 0.5), ("swapped", swapped, 0.4)):
        write_adapter(toy_bundle / file_of(name), {"text": {"table": values}})
        entries[name] = {"file": file_of(name), "threshold": threshold, "training": {"val": {"dice": threshold}}}
        entries[name]["parity"] = manifest.parity
    replace(manifest, adapters=entries).save(toy_bundle)
    return toy_bundle


@pytest.fixture
def fixed_bundle(tmp_path) -> Path:
    """The same with the prompts `red` and `green` fixed."""
    folder = tmp_path / "fixed"
    folder.mkdir()
    save_parts(folder)
    (folder / "text.onnx").unlink()
    rows = text_table()[[WORDS.index("red"), WORDS.index("green")]]
    np.save(folder / FIXED_TEXT, rows.reshape(2, 2, 3))
    parts = {"image": "image.onnx", "text": None, "decoder": "decoder.onnx"}
    toy_manifest(parts=parts, tokenizer=None, fixed_prompts=["red", "green"]).save(folder)
    return folder


def colour_image(height: int = 40, width: int = 56) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a dark picture with a red and a green block, and the mask of each."""
    image = np.full((height, width, 3), 20, np.uint8)
    masks = {}
    for colour, (channel, columns) in {"red": (0, slice(0, width // 4)), "green": (1, slice(width // 2, None))}.items():
        masks[colour] = np.zeros((height, width), bool)
        masks[colour][: height // 2, columns] = True
        image[masks[colour], channel] = 250
    return image, masks


@pytest.fixture
def colours() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`colour_image` at its usual size."""
    return colour_image()


@pytest.fixture
def toy_data(tmp_path) -> Path:
    """Four pictures in the community's layout: p1 names red or green, p2 offers alternatives."""
    folder = tmp_path / "data"
    for name in ("images", "masks", "anns"):
        (folder / name).mkdir(parents=True)
    entries = []
    for i, colour in enumerate(["red", "green", "red", "blue"]):
        image, masks = colour_image(32 + i, 48 + 3 * i)
        mask = masks.get(colour, np.zeros(image.shape[:2], bool))
        Image.fromarray(image).save(folder / "images" / f"case{i}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"case{i}.png")
        prompts = {"p0": "", "p1": colour, "p2": [f"{colour} spot", f"round {colour} spot", f"a {colour} one"]}
        entries.append({"img_name": f"case{i}.png", "mask_name": f"case{i}.png", "prompts": prompts})
    for split, part in {"train": entries[:2], "val": entries[2:3], "test": entries}.items():
        (folder / "anns" / f"{split}.json").write_text(json.dumps(part))
    return folder
