"""Parts that need each other's outputs: the order they run in, what is remembered, several tensors between them."""

from typing import Any

import numpy as np
import pytest

from vlseg.deploy import pixels
from vlseg.deploy.bench.plan import Plan, Subject
from vlseg.deploy.bench.run import measure
from vlseg.deploy.bench.tasks import draw_image
from vlseg.deploy.errors import BundleError, UserError
from vlseg.deploy.fixed import read_fixed
from vlseg.deploy.flow import TWO_TOWERS, Flow
from vlseg.deploy.manifest import Manifest, fixed_file
from vlseg.deploy.segmenter import Segmenter

SIDE = 8
CONDITIONAL = {  # the text reads a vector of the image
    "image": {"inputs": ["pixel_values"], "outputs": ["high", "low", "image_context"]},
    "text": {"inputs": ["input_ids", "attention_mask", "image_context"], "outputs": ["words", "seen"]},
    "decoder": {"inputs": ["high", "low", "words", "seen"], "outputs": ["logits"]},
}
GUIDED = {  # the image reads the words
    "image": {"inputs": ["pixel_values", "words", "seen"], "outputs": ["high", "low"]},
    "text": {"inputs": ["input_ids", "attention_mask"], "outputs": ["words", "seen"]},
    "decoder": {"inputs": ["high", "low", "seen"], "outputs": ["logits"]},
}


def image_part(given):
    pixel_values = given["pixel_values"]
    extra = given["words"][:, 0, :1, None] if "words" in given else 0
    low = pixel_values[:, 1] + extra
    return {"high": pixel_values[:, :1], "low": low, "image_context": pixel_values.mean((2, 3))}


def text_part(given):
    ids = given["input_ids"]
    context = given["image_context"].sum(1) if "image_context" in given else np.zeros(len(ids))
    words = (ids * given["attention_mask"])[..., None] * (1 + context[:, None, None])
    return {"words": words.astype(np.float32), "seen": given["attention_mask"].astype(bool)}


def decoder_part(given):
    weight = given["words"].sum((1, 2)) if "words" in given else given["seen"].sum(1)
    logits = given["high"] * weight[:, None, None, None] + given["low"][:, None]
    return {"logits": logits.astype(np.float32)}


class Part:
    """An engine of a function, which notes its batches and gives only what the flow names."""

    name = "numpy"

    def __init__(self, function, outputs):
        self.function, self.outputs, self.batches = function, outputs, []

    def run(self, inputs):
        self.batches.append(len(next(iter(inputs.values()))))
        out = self.function(inputs)
        return {name: out[name] for name in self.outputs}

    def close(self):
        pass


class Letters:
    """Tokens are letters."""

    context = 77

    def __call__(self, prompts, length=None):
        ids = np.zeros((len(prompts), length or 4), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = [ord(letter) for letter in prompt]
        return ids, (ids > 0).astype(np.int64)


tokenizer: Any = Letters()


def opened(flow, **changes):
    functions = {"image": image_part, "text": text_part, "decoder": decoder_part}
    engines = {part: Part(functions[part], flow[part]["outputs"]) for part in flow}
    fields = {"flow": flow, "text_depends_on_image": flow is CONDITIONAL, **changes}
    manifest = Manifest("toy", "toy/flow", "toy", SIDE, (0.5,) * 3, (0.2,) * 3, **fields)
    return Segmenter(manifest, engines, tokenizer), {part: engine.batches for part, engine in engines.items()}


def pictures(count):
    return list(np.random.default_rng(0).integers(0, 256, (count, 9, 7, 3), dtype=np.uint8))


def alone(flow, image, prompt):
    """The answer of the parts, called by hand in their order."""
    made = dict(zip(("input_ids", "attention_mask"), tokenizer([prompt]), strict=True))
    made["pixel_values"] = pixels.to_input(image, SIDE, (0.5,) * 3, (0.2,) * 3)[None]
    order = (text_part, image_part) if flow is GUIDED else (image_part, text_part)
    for part, name in zip(order, ("text", "image") if flow is GUIDED else ("image", "text"), strict=True):
        made |= part({key: made[key] for key in flow[name]["inputs"]})
    return decoder_part({key: made[key] for key in flow["decoder"]["inputs"]})["logits"][0, 0]


def test_the_order_and_what_answers_depend_on():
    usual, conditional, guided = Flow(TWO_TOWERS), Flow(CONDITIONAL), Flow(GUIDED)
    assert usual.order[-1] == "decoder" and set(usual.order) == {"image", "text", "decoder"}
    assert conditional.order == ("image", "text", "decoder") and guided.order == ("text", "image", "decoder")
    both = {"picture", "prompt"}
    assert usual.depends == {"image": {"picture"}, "text": {"prompt"}, "decoder": both}
    assert conditional.depends == {"image": {"picture"}, "text": both, "decoder": both}
    assert guided.depends == {"image": both, "text": {"prompt"}, "decoder": both}


@pytest.mark.parametrize("flow", [CONDITIONAL, GUIDED])
def test_every_answer_is_that_of_its_own_picture_and_prompt(flow):
    segmenter, _ = opened(flow)
    for _ in range(2):  # computed, then remembered
        for image in pictures(3):
            for prompt in ("ab", "c", "ba"):
                np.testing.assert_allclose(segmenter.logits(image, prompt), alone(flow, image, prompt), rtol=1e-5)


def test_text_is_known_by_picture_and_prompt():
    segmenter, batches = opened(CONDITIONAL)
    first, second = pictures(2)
    for image, prompt in ((first, "a"), (first, "a"), (second, "a"), (second, "b")):
        segmenter.logits(image, prompt)
    assert batches == {"image": [1, 1], "text": [1, 1, 1], "decoder": [1, 1, 1, 1]}
    segmenter.segment_many(first, ["a", "b", "c", "b"])
    assert batches["image"] == [1, 1] and batches["text"][-1] == 2 and batches["decoder"][-1] == 4


def test_an_image_that_reads_the_words_is_known_by_both():
    segmenter, batches = opened(GUIDED)
    first, second = pictures(2)
    for image, prompt in ((first, "a"), (first, "a"), (second, "a"), (second, "b")):
        segmenter.logits(image, prompt)
    assert batches == {"image": [1, 1, 1], "text": [1, 1], "decoder": [1, 1, 1, 1]}
    segmenter.segment_many(first, ["a", "b", "c", "b"])
    assert batches["image"][-1] == 2 and batches["text"][-1] == 1


@pytest.mark.parametrize(
    ("flow", "by_pictures", "by_prompts"),
    [
        (TWO_TOWERS, {"image"}, {"text"}),
        (CONDITIONAL, {"image", "text"}, {"text"}),
        (GUIDED, {"image"}, {"image", "text"}),
    ],
)
def test_what_is_forgotten(flow, by_pictures, by_prompts):
    for images, parts in ((True, by_pictures), (False, by_prompts)):
        segmenter, _ = opened(flow)
        for cache in segmenter._caches.values():
            cache.put("key", {})
        segmenter.forget(images=images, texts=not images)
        assert {part for part, cache in segmenter._caches.items() if not len(cache)} == parts


def test_batches_of_parts_are_what_bench_times(tmp_path):
    segmenter, _ = opened(CONDITIONAL)
    (image,) = pictures(1)
    inputs = segmenter.inputs_of_parts(image, "ab", 3)
    assert {part: {name: len(array) for name, array in given.items()} for part, given in inputs.items()} == {
        part: dict.fromkeys(CONDITIONAL[part]["inputs"], 3) for part in CONDITIONAL
    }
    logits = segmenter.run_part("decoder", inputs["decoder"])["logits"]
    np.testing.assert_allclose(logits[2, 0], alone(CONDITIONAL, image, "ab"), rtol=1e-5)
    plan = Plan(repeats=1, warmup=0, batches=(1, 2), prompt="ab")
    report = measure([Subject("toy", segmenter)], plan, draw_image(tmp_path / "x.png", 32, 24))
    assert [row["stage"] for row in report["rows"][:3]] == ["image", "text", "decoder"] and len(report["rows"]) == 12


def test_fixed_prompts_of_several_tensors(tmp_path):
    flow = {**GUIDED}
    rows = text_part(dict(zip(("input_ids", "attention_mask"), tokenizer(["ab", "c"]), strict=True)))
    axes = {"image": {"words": ["batch", 4, 1], "seen": ["batch", 4]}}
    manifest = Manifest("toy", "toy/flow", "toy", SIDE, (0.5,) * 3, (0.2,) * 3, flow=flow, axes=axes)
    for name, array in rows.items():
        np.save(tmp_path / fixed_file(name), array)
    fixed = read_fixed(tmp_path, manifest)
    assert fixed.keys() == {"words", "seen"} and fixed["seen"].dtype == bool
    free, _ = opened(flow)
    segmenter = Segmenter(Manifest(**{**vars(manifest), "fixed_prompts": ["ab", "c"]}), free._engines, None, fixed)
    (image,) = pictures(1)
    for prompt in ("ab", "c"):
        np.testing.assert_array_equal(segmenter.logits(image, prompt), free.logits(image, prompt))
    with pytest.raises(UserError, match="does not know the prompt 'd'"):
        segmenter.logits(image, "d")
    np.save(tmp_path / fixed_file("words"), rows["words"][:, :3])
    with pytest.raises(BundleError, match=r"fixed_words\.npy is float32 \(2, 3, 1\), expected .*'n', 4, 1"):
        read_fixed(tmp_path, manifest)
