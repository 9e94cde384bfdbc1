import json
from dataclasses import fields, replace

import pytest

from vlseg.deploy.errors import BundleError, UserError
from vlseg.deploy.files import seal_of, sha256
from vlseg.deploy.manifest import MANIFEST, Manifest


def edit(bundle, **changes):
    """Change manifest fields, as one who knows of the seal; ... removes one."""
    values = {**json.loads((bundle / MANIFEST).read_text()), **changes}
    values = {name: value for name, value in values.items() if value is not ...}
    sealed = {"seal": seal_of(values)} if "seal" in values and "seal" not in changes else {}
    (bundle / MANIFEST).write_text(json.dumps({**values, **sealed}))


def test_there_and_back(toy_bundle):
    manifest = Manifest.load(toy_bundle)
    assert manifest.name == "toy" and manifest.mean == (0.5, 0.4, 0.3) and manifest.schema_version == 4
    assert manifest.axes["text"]["input_ids"] == ["batch", "length"]
    assert manifest.files == {
        name: sha256(toy_bundle / name) for name in ("image.onnx", "text.onnx", "decoder.onnx", "tokenizer.json")
    }
    before = (toy_bundle / MANIFEST).read_bytes()
    assert manifest.save(toy_bundle) == manifest
    assert (toy_bundle / MANIFEST).read_bytes() == before


def test_the_file_has_every_field_and_is_plain_json(toy_bundle):
    values = json.loads((toy_bundle / MANIFEST).read_text())
    assert set(values) == {field.name for field in fields(Manifest)}
    assert Manifest.load(toy_bundle).to_json() == values


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "decoder.onnx", "tokenizer.json"])
def test_a_changed_byte_names_the_file(toy_bundle, name):
    data = bytearray((toy_bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (toy_bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} is not the file.*hash differs"):
        Manifest.load(toy_bundle)


def test_a_missing_file_is_named(toy_bundle):
    (toy_bundle / "decoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"lacks decoder\.onnx"):
        Manifest.load(toy_bundle)


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"not a bundle.*vlseg export"):
        Manifest.load(tmp_path)
    with pytest.raises(BundleError, match="not a bundle"):
        Manifest.load(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\xff"])
def test_malformed_json(toy_bundle, text):
    (toy_bundle / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Manifest.load(toy_bundle)


@pytest.mark.parametrize("version", [5, 0, "1", True, 1.0, [], {}, None, ...])
def test_another_schema_names_it_and_the_way_out(toy_bundle, version):
    edit(toy_bundle, schema_version=version, brand_new="x")
    with pytest.raises(BundleError, match=r"schema .*, this vlseg reads 1 to 4: install the vlseg that wrote it"):
        Manifest.load(toy_bundle)


@pytest.mark.parametrize(
    ("version", "unknown"),
    [(1, ("flow", "quantised", "adapters", "seal")), (2, ("quantised", "adapters", "seal")), (3, ("seal",))],
)
def test_older_schemas_still_open(toy_bundle, fixed_bundle, version, unknown):
    for folder in (toy_bundle, fixed_bundle):
        today = Manifest.load(folder)
        edit(folder, schema_version=version, **dict.fromkeys(unknown, ...))
        assert Manifest.load(folder) == replace(today, seal="")


@pytest.mark.parametrize(
    ("adapters", "says"),
    [
        ([], "adapters is "),
        ({"polyp": {"file": "adapters/polyp.npz"}}, "adapters is .* a threshold from 0 to 1"),
        ({"polyp": {"file": "", "threshold": 0.5}}, "adapters is "),
        ({"polyp": {"file": "adapters/polyp.npz", "threshold": 0.5}}, "adapters/polyp.npz is not listed"),
    ],
)
def test_adapters_that_are_none_are_refused(toy_bundle, adapters, says):
    edit(toy_bundle, adapters=adapters)
    with pytest.raises(BundleError, match=says):
        Manifest.load(toy_bundle)


@pytest.mark.parametrize(
    ("part", "ends", "says"),
    [
        ("text", {"inputs": ["input_ids", "image_context"]}, "the text part needs image_context, which no encoder"),
        ("text", {"outputs": ["image_embedding"]}, "image_embedding is made twice"),
        ("text", {"inputs": ["input_ids", "image_embedding"]}, "by its flow the text does depend on the image"),
        ("image", {"inputs": ["logits"]}, "the image part needs logits, which no encoder makes"),
        ("decoder", {"outputs": ["mask"]}, "the decoder makes mask, expected logits"),
        ("decoder", {"more": ["x"]}, "expected inputs and outputs of image, text, decoder"),
    ],
)
def test_a_flow_that_cannot_run_is_refused(toy_bundle, part, ends, says):
    flow = Manifest.load(toy_bundle).flow
    edit(toy_bundle, flow={**flow, part: {**flow[part], **ends}})
    with pytest.raises(BundleError, match=says):
        Manifest.load(toy_bundle)


def test_a_flow_in_a_ring_or_without_a_part_is_refused(toy_bundle):
    flow = Manifest.load(toy_bundle).flow
    ring = {
        "image": {**flow["image"], "inputs": ["pixel_values", "text_embedding"]},
        "text": {**flow["text"], "inputs": ["input_ids", "image_embedding"]},
    }
    edit(toy_bundle, flow={**flow, **ring})
    with pytest.raises(BundleError, match="wait for each other"):
        Manifest.load(toy_bundle)
    edit(toy_bundle, flow={"image": flow["image"]})
    with pytest.raises(BundleError, match="inputs and outputs of image, text, decoder"):
        Manifest.load(toy_bundle)


def test_prompts_cannot_be_fixed_where_text_depends_on_the_image(fixed_bundle):
    flow = Manifest.load(fixed_bundle).flow
    flow = {**flow, "text": {**flow["text"], "inputs": ["input_ids", "attention_mask", "image_embedding"]}}
    edit(fixed_bundle, flow=flow, text_depends_on_image=True)
    with pytest.raises(BundleError, match="fixed prompts although"):
        Manifest.load(fixed_bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 7),
        ("image_size", 0),
        ("image_size", 3.5),
        ("image_size", True),
        ("mean", [0.5, 0.5]),
        ("mean", [0.5, 0.5, "x"]),
        ("std", [0.5, 0.5, 0]),
        ("std", [0.5, 0.5, float("nan")]),
        ("threshold", 1.5),
        ("threshold", float("nan")),
        ("threshold", None),
        ("tokenizer", 5),
        ("tokenizer", ""),
        ("text_depends_on_image", "no"),
        ("parts", ["image.onnx"]),
        ("parts", {"image": 1}),
        ("flow", {"image": ["pixel_values"]}),
        ("flow", {"image": {"inputs": []}}),
        ("axes", {"image": {"pixel_values": ["batch", 0]}}),
        ("axes", {"image": ["batch"]}),
        ("fixed_prompts", "polyp"),
        ("files", {"image.onnx": None}),
        ("opset", "20"),
        ("versions", {"onnx": 1}),
    ],
)
def test_a_malformed_field_is_named(toy_bundle, field, value):
    edit(toy_bundle, **{field: value})
    with pytest.raises(BundleError, match=f"manifest field {field} is"):
        Manifest.load(toy_bundle)


def test_unknown_and_missing_fields(toy_bundle):
    edit(toy_bundle, brand_new=1)
    with pytest.raises(BundleError, match="unknown manifest fields brand_new"):
        Manifest.load(toy_bundle)
    edit(toy_bundle, brand_new=..., mean=..., opset=...)
    with pytest.raises(BundleError, match="lacks the manifest fields mean, opset"):
        Manifest.load(toy_bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link"])
def test_a_path_that_leaves_the_bundle(toy_bundle, name):
    secret = toy_bundle.parent / "secret"
    secret.write_text("x")
    (toy_bundle / "link").symlink_to(secret)
    manifest = Manifest.load(toy_bundle)
    parts = {**manifest.parts, "decoder": name}
    edit(toy_bundle, parts=parts, files={**manifest.files, name: sha256(secret)})
    with pytest.raises(BundleError, match="outside the bundle"):
        Manifest.load(toy_bundle)


def test_a_part_that_is_not_hashed_is_refused(toy_bundle):
    (toy_bundle / "other.onnx").write_bytes((toy_bundle / "decoder.onnx").read_bytes())
    edit(toy_bundle, parts={"image": "image.onnx", "text": "text.onnx", "decoder": "other.onnx"})
    with pytest.raises(BundleError, match=r"other\.onnx is used but not listed"):
        Manifest.load(toy_bundle)


@pytest.mark.parametrize("missing", ["image", "decoder"])
def test_parts_that_cannot_be_left_out(toy_bundle, missing):
    parts = Manifest.load(toy_bundle).parts
    edit(toy_bundle, parts={**parts, missing: None})
    with pytest.raises(BundleError, match="used but not listed"):
        Manifest.load(toy_bundle)
    edit(toy_bundle, parts={name: file for name, file in parts.items() if name != missing})
    with pytest.raises(BundleError, match="expected image, text, decoder"):
        Manifest.load(toy_bundle)


def test_either_text_or_fixed_prompts(toy_bundle, fixed_bundle):
    assert Manifest.load(fixed_bundle).fixed_prompts == ["red", "green"]
    edit(toy_bundle, fixed_prompts=["red"])
    with pytest.raises(BundleError, match="not both or neither"):
        Manifest.load(toy_bundle)
    edit(fixed_bundle, fixed_prompts=[])
    with pytest.raises(BundleError, match="not both or neither"):
        Manifest.load(fixed_bundle)


def test_text_needs_its_tokenizer(toy_bundle):
    edit(toy_bundle, tokenizer=None)
    with pytest.raises(BundleError, match="used but not listed"):
        Manifest.load(toy_bundle)


def test_saving_what_would_not_load_is_refused(toy_bundle):
    manifest = Manifest.load(toy_bundle)
    before = (toy_bundle / MANIFEST).read_bytes()
    (toy_bundle / "text.onnx").unlink()
    with pytest.raises(BundleError, match=r"text\.onnx is used but not listed"):
        manifest.save(toy_bundle)
    assert (toy_bundle / MANIFEST).read_bytes() == before


def test_a_bundle_error_is_a_user_error():
    assert issubclass(BundleError, UserError)
