import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export.share import FILE, OUTPUT, add_share, share_graph
from vlseg.train.models.adapters import Bottleneck
from vlseg.train.models.methods import build_model


def expected(model, images):
    """The same in float64, from the model as it was trained, unfolded."""
    found = []

    def note(adapter, given, out):
        found.append((out - given[0]).norm(dim=-1) / given[0].norm(dim=-1))

    model = model.double()
    hooks = [one.register_forward_hook(note) for one in model.modules() if isinstance(one, Bottleneck)]
    with torch.no_grad():
        model.image_embedding(model.image_states(images.double()))
    for hook in hooks:
        hook.remove()
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("method", ["clipseg/dense-vl", "clipseg/shallow-v"])
def test_it_is_what_the_adapters_do_in_float64(method):
    model = build_model(method, "nano", weights="random", seed=3)
    images = torch.randn(3, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    graph, shape = share_graph(model)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (share,) = session.run([OUTPUT], {"pixel_values": images.numpy()})
    true = expected(model, images).numpy()
    assert share.shape == (3, *shape[1:]) == true.shape
    assert true.max() > 0.01
    assert np.abs(share - true).max() < 1e-4 * true.max()


@pytest.mark.parametrize("method", ["clipseg/frozen", "clipseg/lora"])
def test_without_adapters_there_is_nothing_to_tell(method):
    with pytest.raises(UserError, match="no bottleneck adapters"):
        share_graph(build_model(method, "nano", weights="random"))


@pytest.fixture
def copied(walked, tmp_path):
    return Path(shutil.copytree(walked.out / "bundle", tmp_path / "bundle"))


def test_a_bundle_with_it_answers_as_before(walked, copied, door):
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    with Segmenter.open(copied) as before:
        answer = before.probability(image, "one round lesion")
    said = door("explain", walked.out / "run", copied, "--json")
    assert said.code == 0 and json.loads(said.out)["adapters"] > 0
    assert FILE in Manifest.load(copied).files
    with Segmenter.open(copied) as after:
        assert np.array_equal(after.probability(image, "one round lesion"), answer)


def test_a_bundle_of_another_run_is_refused(walked, copied):
    replace(Manifest.load(copied), weights_hash="0" * 64).save(copied)
    with pytest.raises(UserError, match="name its own run"):
        add_share(walked.out / "run", copied)


def test_a_bundle_says_how_much_was_trained(walked):
    run = json.loads((walked.out / "run" / "run.json").read_text())
    assert Manifest.load(walked.out / "bundle").training["trained_parameters"] == run["trained_parameters"] > 0
