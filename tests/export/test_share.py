import json

import numpy as np
import onnxruntime
import pytest
import torch

from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.export.share import OUTPUT, graph
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
    made, shape = graph(model)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (share,) = session.run([OUTPUT], {"pixel_values": images.numpy()})
    true = expected(model, images).numpy()
    assert share.shape == (3, *shape[1:]) == true.shape
    assert true.max() > 0.01
    assert np.abs(share - true).max() < 1e-4 * true.max()


@pytest.mark.parametrize("method", ["clipseg/frozen", "clipseg/lora"])
def test_without_adapters_there_is_nothing_to_tell(method):
    with pytest.raises(UserError, match="no bottleneck adapters"):
        graph(build_model(method, "nano", weights="random"))


def test_a_bundle_says_how_much_was_trained(walked):
    run = json.loads((walked.out / "run" / "run.json").read_text())
    assert Manifest.load(walked.out / "bundle").training["trained_parameters"] == run["trained_parameters"] > 0
