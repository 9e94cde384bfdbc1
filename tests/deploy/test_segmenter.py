import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy import pixels
from vlseg.deploy.cache import Cache
from vlseg.deploy.clean import Clean
from vlseg.deploy.errors import BundleError, EngineError, UserError
from vlseg.deploy.manifest import MANIFEST, Manifest, fixed_file
from vlseg.deploy.segmenter import Segmenter

FIXED_TEXT = fixed_file("text_embedding")


class Counted:
    """An engine that counts its calls and the batch of each."""

    def __init__(self, inner):
        self.inner, self.name, self.batches = inner, inner.name, []

    def run(self, inputs):
        self.batches.append(len(next(iter(inputs.values()))))
        return self.inner.run(inputs)

    def close(self):
        self.inner.close()


@pytest.fixture
def segmenter(toy_bundle):
    with Segmenter.open(toy_bundle, threads=1) as opened:
        opened._engines = {part: Counted(inner) for part, inner in opened._engines.items()}
        yield opened


def calls(segmenter):
    return {part: engine.batches for part, engine in segmenter._engines.items()}


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_it_finds_what_the_prompt_names(segmenter, colours):
    image, masks = colours
    for colour, mask in masks.items():
        found = segmenter.segment(image, f"the {colour} spot")
        assert found.shape == mask.shape and found.dtype == bool
        assert dice(found, mask) > 0.9
    assert not segmenter.segment(image, "blue").any()


def test_logits_against_float64(segmenter, colours):
    image, _ = colours
    values = pixels.to_input(image, 16, segmenter.manifest.mean, segmenter.manifest.std).astype(np.float64)
    expected = 4 * values[1] - 1
    logits = segmenter.logits(image, "green")
    assert logits.dtype == np.float32 and np.abs(logits - expected).max() < 1e-4
    probability = segmenter.probability(image, "green")
    assert np.array_equal(probability, pixels.to_probability(logits, 40, 56))
    assert np.array_equal(segmenter.segment(image, "green", 0.9), probability > 0.9)
    assert np.array_equal(segmenter.segment(image, "green"), probability > 0.5)


def test_the_manifest_s_threshold_is_the_default(toy_bundle, colours):
    replace(Manifest.load(toy_bundle), threshold=0.99).save(toy_bundle)
    with Segmenter.open(toy_bundle) as segmenter:
        result = segmenter.run(colours[0], "red")
        assert np.array_equal(result.mask, result.probability > 0.99)


def test_encode_once_ask_many(segmenter, colours):
    image, _ = colours
    first = segmenter.run(image, "red").timings
    new = segmenter.run(image, "green").timings
    known = segmenter.run(image.copy(), "red").timings
    assert calls(segmenter) == {"image": [1], "text": [1, 1], "decoder": [1, 1, 1]}
    assert first.image > 0 and first.text > 0 and first.decoder > 0 and first.postprocess > 0
    assert new.image == 0 and new.text > 0
    assert known.image == 0 and known.text == 0 and known.decoder > 0
    assert known.total == known.preprocess + known.decoder + known.postprocess


def test_cached_answers_are_the_same(segmenter, colours):
    image, _ = colours
    fresh = {p: segmenter.logits(image, p) for p in ("red", "green", "blue")}
    for prompt, logits in fresh.items():
        assert np.array_equal(segmenter.logits(image, prompt), logits)
        segmenter.forget()
        assert np.array_equal(segmenter.logits(image, prompt), logits)


def test_a_changed_pixel_is_another_image(segmenter, colours):
    image, _ = colours
    before = segmenter.logits(image, "red")
    image[0, 0] ^= 255
    assert not np.array_equal(segmenter.logits(image, "red"), before)
    assert not np.array_equal(segmenter.logits(image[:, ::-1], "red"), segmenter.logits(image, "red"))
    segmenter.logits(image.reshape(56, 40, 3), "red")
    assert calls(segmenter)["image"] == [1, 1, 1, 1]


def test_an_answer_does_not_reach_into_the_cache(segmenter, colours):
    before = segmenter.logits(colours[0], "red").copy()
    segmenter.logits(colours[0], "red")[:] = 7
    assert np.array_equal(segmenter.logits(colours[0], "red"), before)


def test_many_prompts_one_decoder_call(segmenter, colours):
    image, _ = colours
    prompts = ["red", "a round green spot", "blue", "red"]
    many = segmenter.segment_many(image, prompts)
    assert many.shape == (4, 40, 56) and many.dtype == bool
    assert calls(segmenter) == {"image": [1], "text": [3], "decoder": [4]}
    segmenter.forget()
    for prompt, mask in zip(prompts, many, strict=True):
        assert np.array_equal(mask, segmenter.segment(image, prompt))
    assert np.array_equal(segmenter.segment_many(image, ["red"], 0.9)[0], segmenter.segment(image, "red", 0.9))
    for bad in ([], "red"):
        with pytest.raises(UserError, match="at least one sentence"):
            segmenter.segment_many(image, bad)


def test_a_class_map_by_one_decoder_call(segmenter, colours):
    image, masks = colours
    labels = segmenter.classes(image, ["red", "green", "blue"])
    assert labels.dtype == np.uint8 and calls(segmenter) == {"image": [1], "text": [3], "decoder": [3]}
    probability = np.stack([result.probability for result in segmenter.run_many(image, ["red", "green", "blue"])])
    assert np.array_equal(labels, np.where(probability.max(axis=0) > 0.5, probability.argmax(axis=0) + 1, 0))
    assert dice(labels == 1, masks["red"]) > 0.9 and dice(labels == 2, masks["green"]) > 0.9
    assert (segmenter.classes(image, ["red"], 0.9) == segmenter.segment(image, "red", 0.9)).all()
    with pytest.raises(UserError, match="256 prompts"):
        segmenter.classes(image, ["red"] * 256)


def test_a_batch_of_pictures_by_one_call_of_each_part(segmenter, colours):
    images = [colours[0], np.ascontiguousarray(colours[0][:, ::-1]), np.full((7, 90, 3), 200, np.uint8), colours[0]]
    prompts = ["red", "green", "red", "green"]
    results = segmenter.run_batch(images, prompts)
    assert calls(segmenter) == {"image": [3], "text": [2], "decoder": [4]}
    for image, prompt, result in zip(images, prompts, results, strict=True):
        alone = segmenter.run(image, prompt)
        assert np.abs(alone.probability - result.probability).max() < 1e-6
        assert np.array_equal(alone.mask, result.mask) and result.mask.shape == image.shape[:2]
    assert calls(segmenter)["image"] == [3]  # they were kept
    for bad in ((images, ["red"]), ([], [])):
        with pytest.raises(UserError, match="a prompt for each picture"):
            segmenter.run_batch(*bad)


def test_what_is_not_to_be_kept_is_not(segmenter, colours):
    for _ in range(2):
        segmenter.run_batch([colours[0]] * 2, ["red", "green"], remember=False)
    assert calls(segmenter) == {"image": [1, 1], "text": [2], "decoder": [2, 2]}
    assert len(segmenter._caches["image"]) == 0


def test_a_kept_row_does_not_hold_its_batch(segmenter, colours):
    """Eight pictures of one call would else stay in memory for as long as one of them is known."""
    segmenter.run_batch([colours[0], colours[0] + np.uint8(1)], ["red", "red"])
    for cache in segmenter._caches.values():
        for outputs in cache._values.values():
            assert all(array.base is None or array.base.size == array.size for array in outputs.values())


def test_a_pillow_image_is_the_same_picture(segmenter, colours):
    image, picture = colours[0], Image.fromarray(colours[0])
    for ask in (
        lambda given: segmenter.logits(given, "red"),
        lambda given: segmenter.run(given, "red").mask,
        lambda given: segmenter.classes(given, ["red", "green"]),
        lambda given: segmenter.tiled(given, "red", side=20).probability,
        lambda given: segmenter.run_batch([given], ["red"], remember=False)[0].probability,
    ):
        assert np.array_equal(ask(image), ask(picture))
    assert len(segmenter._caches["image"]) == 1  # it has the same key
    with pytest.raises(UserError, match="image is L"):
        segmenter.run(picture.convert("L"), "red")


def test_frames_as_they_come(segmenter, colours):
    frames = [colours[0], np.ascontiguousarray(colours[0][::-1]), colours[0]]
    taken = []

    def camera():
        for frame in frames:
            taken.append(frame)
            yield frame

    answers = segmenter.stream(camera(), "red")
    first = next(answers)
    assert len(taken) == 1 and np.array_equal(first.mask, segmenter.segment(frames[0], "red"))
    rest = list(answers)
    assert [np.array_equal(a.mask, segmenter.segment(f, "red")) for a, f in zip(rest, frames[1:], strict=True)] == [
        True,
        True,
    ]
    assert calls(segmenter)["text"] == [1]


def test_masks_are_cleaned_and_probabilities_are_not(segmenter):
    image = np.full((64, 64, 3), 20, np.uint8)
    image[4:40, 4:40, 0] = image[56:60, 56:60, 0] = 250
    plain, cleaned = segmenter.run(image, "red"), segmenter.run(image, "red", clean=Clean(largest=True))
    assert plain.mask[58, 58] and not cleaned.mask[58, 58] and cleaned.mask[20, 20]
    assert np.array_equal(plain.probability, cleaned.probability)


def test_caches_are_bounded(toy_bundle, colours):
    with Segmenter.open(toy_bundle) as opened:
        small = Segmenter(opened.manifest, opened._engines, opened._tokenizer, images=2, texts=3)
        for i in range(9):
            small.segment(colours[0] + np.uint8(i), f"red {'spot ' * i}")
        assert {part: len(cache) for part, cache in small._caches.items()} == {"image": 2, "text": 3}


def test_more_prompts_than_the_cache_holds(toy_bundle, colours):
    with Segmenter.open(toy_bundle) as opened:
        small = Segmenter(opened.manifest, opened._engines, opened._tokenizer, texts=1)
        prompts = ["red", "green", "blue", "red spot"]
        many = small.segment_many(colours[0], prompts)
        assert np.array_equal(many, opened.segment_many(colours[0], prompts))


def test_least_recently_used_goes_first():
    cache = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)
    none = Cache(0)
    none.put("a", 1)
    assert none.get("a") is None


def test_many_threads_never_cross_answers(toy_bundle):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(6)]
    prompts = ["red", "green", "blue", "red green"]
    wrong = []
    with Segmenter.open(toy_bundle, threads=1) as opened:
        expected = {(i, p): opened.logits(image, p) for i, image in enumerate(images) for p in prompts}
        shared = Segmenter(opened.manifest, opened._engines, opened._tokenizer, images=2, texts=2)

        def ask(seed):
            draw = np.random.default_rng(seed)
            for _ in range(40):
                i, prompt = int(draw.integers(6)), prompts[draw.integers(4)]
                if not np.array_equal(shared.logits(images[i], prompt), expected[i, prompt]):
                    wrong.append((i, prompt))

        workers = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


def test_every_kind_of_call_from_many_threads(toy_bundle):
    """One segmenter, sixteen threads, every way of asking, caches so small that they are always in dispute."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(5)]
    prompts = ["red", "green", "blue"]
    ways = {
        "run": lambda s, i: s.run(images[i], "red").mask,
        "many": lambda s, i: s.segment_many(images[i], prompts),
        "classes": lambda s, i: s.classes(images[i], prompts),
        "tiled": lambda s, i: s.tiled(images[i], "green", side=12, batch=2).mask,
        "batch": lambda s, i: s.run_batch([images[i], images[i - 1]], ["red", "blue"])[1].mask,
        "stream": lambda s, i: next(s.stream([images[i]], "blue")).mask,
    }
    with Segmenter.open(toy_bundle, threads=1) as opened:
        expected = {(way, i): ask(opened, i) for way, ask in ways.items() for i in range(5)}
        shared = Segmenter(opened.manifest, opened._engines, opened._tokenizer, images=1, texts=1)

        def wrong(seed):
            draw = np.random.default_rng(seed)
            asked = [(list(ways)[draw.integers(len(ways))], int(draw.integers(5))) for _ in range(25)]
            return [one for one in asked if not np.array_equal(ways[one[0]](shared, one[1]), expected[one])]

        with ThreadPoolExecutor(16) as pool:
            assert not [one for found in pool.map(wrong, range(16)) for one in found]


def test_fixed_prompts(toy_bundle, fixed_bundle, colours):
    image, _ = colours
    with Segmenter.open(fixed_bundle) as fixed, Segmenter.open(toy_bundle) as free:
        for prompt in ("red", "green"):
            assert np.abs(fixed.logits(image, prompt) - free.logits(image, prompt)).max() < 1e-5
        assert fixed.run(image, "red").timings.text == 0
        fixed.forget()
        assert fixed.segment_many(image, ["green", "red"]).shape == (2, 40, 56)
        with pytest.raises(UserError, match="does not know the prompt 'blue': it was exported for 'red', 'green'"):
            fixed.segment(image, "blue")
        with pytest.raises(UserError, match="fixed prompts"):
            fixed.tokenize(["red"])


@pytest.mark.parametrize(
    "array", [np.zeros((3, 2, 3), np.float32), np.zeros((2, 2, 3)), np.zeros((2, 3), np.float32), None]
)
def test_fixed_embeddings_that_do_not_fit(fixed_bundle, array):
    manifest = Manifest.load(fixed_bundle)
    if array is None:
        (fixed_bundle / FIXED_TEXT).write_bytes(b"nothing")
    else:
        np.save(fixed_bundle / FIXED_TEXT, array)
    manifest.save(fixed_bundle)
    with pytest.raises(BundleError, match="export"):
        Segmenter.open(fixed_bundle)


def test_an_array_of_objects_is_never_unpickled(fixed_bundle):
    manifest = Manifest.load(fixed_bundle)
    np.save(fixed_bundle / FIXED_TEXT, np.array([{}, {}], dtype=object), allow_pickle=True)
    manifest.save(fixed_bundle)
    with pytest.raises(BundleError, match="not an array"):
        Segmenter.open(fixed_bundle)


def test_a_static_text_part_gets_its_length(toy_bundle, colours):
    with Segmenter.open(toy_bundle) as opened:
        axes = {**opened.manifest.axes, "text": {"input_ids": ["batch", 77], "attention_mask": ["batch", 77]}}
        manifest = Manifest(**{**opened.manifest.__dict__, "axes": axes})
        static = Segmenter(manifest, opened._engines, opened._tokenizer)
        assert static.tokenize(["red"])[0].shape == (1, 77)
        assert np.allclose(static.logits(colours[0], "red"), opened.logits(colours[0], "red"), atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_an_error_and_no_mask(segmenter, colours, value):
    decoder = segmenter._engines["decoder"]
    run = decoder.run
    decoder.run = lambda inputs: {"logits": run(inputs)["logits"] * np.float32(value)}
    with pytest.raises(EngineError, match="answered with NaN"):
        segmenter.segment(colours[0], "red")


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8)])
def test_a_picture_of_another_shape(segmenter, image):
    with pytest.raises(UserError, match="expected uint8"):
        segmenter.segment(image, "red")


@pytest.mark.parametrize("prompt", ["", "red " * 2_500, "red \N{CROSS MARK}", "red\x07\0", "\u202e\u05d0\u05d3\u05dd"])
def test_odd_prompts_are_answered(segmenter, colours, prompt):
    assert segmenter.segment(colours[0], prompt).shape == (40, 56)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (999, 1), (16, 16)])
def test_odd_sizes(segmenter, shape):
    assert segmenter.segment(np.full((*shape, 3), 200, np.uint8), "red").shape == shape


def test_a_flag_that_the_flow_belies_is_refused(toy_bundle):
    values = json.loads((toy_bundle / MANIFEST).read_text())
    (toy_bundle / MANIFEST).write_text(json.dumps({**values, "text_depends_on_image": True}))
    with pytest.raises(BundleError, match="does not depend on the image"):
        Segmenter.open(toy_bundle)


@pytest.mark.parametrize("image", ["picture.png", None, [[0]]])
def test_what_is_no_picture_at_all(segmenter, image):
    with pytest.raises(UserError, match="read files by `read_any`"):
        segmenter.segment(image, "red")


@pytest.mark.parametrize("ask", ["run", "segment", "tiled"])
def test_a_threshold_that_is_no_probability(segmenter, colours, ask):
    with pytest.raises(UserError, match="threshold 50: expected a probability from 0 to 1"):
        getattr(segmenter, ask)(colours[0], "red", 50)
    with pytest.raises(UserError, match="threshold nan"):
        segmenter.classes(colours[0], ["red", "green"], float("nan"))


def test_a_changed_byte_is_found_before_anything_runs(toy_bundle):
    with open(toy_bundle / "decoder.onnx", "ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        Segmenter.open(toy_bundle)


def test_closing_ends_it(toy_bundle, colours):
    with Segmenter.open(toy_bundle) as segmenter:
        segmenter.segment(colours[0], "red")
    with pytest.raises(EngineError, match="closed"):
        segmenter.segment(colours[0], "red")


def test_nothing_is_written(segmenter, toy_bundle, colours):
    before = sorted(os.listdir(toy_bundle))
    segmenter.segment(colours[0], "red")
    assert sorted(os.listdir(toy_bundle)) == before
