import numpy as np
import pytest
import torch

from vlseg.deploy.annotations import read_split
from vlseg.deploy.evaluate import evaluate
from vlseg.deploy.pixels import read_image, to_input
from vlseg.train.engine import engines_of, open_run, segmenter_of
from vlseg.train.fit import fit
from vlseg.train.models.methods import build_model


def test_segmenter_gives_the_models_logits(shapes):
    model = build_model("clipseg/dense-vlc", "nano")
    segmenter = segmenter_of(model, 0.4)
    image = read_image(read_split(shapes, "val")[0].image)
    ids, mask = map(torch.from_numpy, model.tokenizer(["a bright square"]))
    values = torch.from_numpy(to_input(image, 32, model.mean, model.std))[None]
    with torch.no_grad():
        logits = model(values, ids, mask)[0, 0].numpy()
    np.testing.assert_allclose(segmenter.logits(image, "a bright square"), logits, atol=1e-6)
    assert segmenter.engine == "torch" and segmenter.manifest.threshold == 0.4
    assert segmenter.segment(image, "a bright square").shape == image.shape[:2]


def test_text_that_depends_on_the_image_gets_its_image(shapes):
    model = build_model("clipseg/cocoop", "nano")
    segmenter = segmenter_of(model)
    assert segmenter.manifest.text_depends_on_image and segmenter.flow.order == ("image", "text", "decoder")
    ids, mask = map(torch.from_numpy, model.tokenizer(["a bright square"]))
    for sample in read_split(shapes, "val"):
        image = read_image(sample.image)
        values = torch.from_numpy(to_input(image, 32, model.mean, model.std))[None]
        with torch.no_grad():
            logits = model(values, ids, mask)[0, 0].numpy()
        np.testing.assert_allclose(segmenter.logits(image, "a bright square"), logits, atol=1e-6)


def test_engines_take_any_batch_and_length():
    engines = engines_of(build_model("clipseg/decoder", "nano"))
    rng = np.random.default_rng(0)
    for batch, length in ((1, 3), (3, 9)):
        pixels = rng.normal(size=(batch, 3, 32, 32)).astype(np.float32)
        image = engines["image"].run({"pixel_values": pixels})["image_embedding"]
        ids = rng.integers(0, 900, (batch, length))
        words = {"attention_mask": np.ones_like(ids), "input_ids": ids}
        text = engines["text"].run(words)["text_embedding"]
        logits = engines["decoder"].run({"image_embedding": image, "text_embedding": text})["logits"]
        assert image.shape == (batch, 3, 17, 16) and text.shape == (batch, 2, 16)
        assert logits.shape == (batch, 1, 32, 32) and logits.dtype == np.float32


@pytest.mark.parametrize("method", ["clipseg/dense-vl", "clipseg/cocoop"])
def test_an_opened_run_scores_what_the_training_said(shapes, tmp_path, nano, method):
    info = fit(nano.replace(prompt="p1", method=method), shapes, tmp_path / "run", say=lambda line: None)
    report = evaluate(open_run(tmp_path / "run"), read_split(shapes, "test"), "p1", data="shapes", split="test")
    assert report["threshold"] == info["threshold"]
    assert report["mean"]["dice"] == pytest.approx(info["metrics"]["test"]["dice"], abs=1e-9)
