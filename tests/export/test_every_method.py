"""Every method leaves: folded, exported, opened by the runtime, and asked the same as the model in torch."""

import pytest
import torch
from torch import nn

from vlseg.deploy.manifest import Manifest
from vlseg.export.bundle import Options, export_model
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import METHODS, build_model

ELSEWHERE = {
    "clipseg/dense-vlc": "test_bundle.py",
    "clipseg/lora": "test_other_methods.py",
    "clipseg/cocoop": "test_flows.py",
    "san/adapter": "test_other_methods.py",
    "sam/lga": "test_sam.py",
    "cris/coop": "test_cris.py",
    "cris/cocoop": "test_cris.py",
}
ALIKE = {  # the same graph with other numbers in it
    "clipseg/decoder": "clipseg/frozen",
    "clipseg/full": "clipseg/frozen",
    "cris/frozen": "cris/full",
    "sam/frozen": "sam/decoder",
    "clipseg/dense-v": "clipseg/dense-vlc",
    "clipseg/dense-vl": "clipseg/dense-vlc",
    "clipseg/shallow-v": "clipseg/shallow-vlc",
    "clipseg/shallow-vl": "clipseg/shallow-vlc",
    "clipseg/shared-separate": "clipseg/maple",
}
HERE = [name for name in METHODS if name not in ELSEWHERE and name not in ALIKE]


def test_every_method_is_exported_here_or_elsewhere():
    assert ELSEWHERE.keys() | ALIKE.keys() <= METHODS.keys()
    assert set(ALIKE.values()) <= {*HERE, *ELSEWHERE}


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_bundle_agrees_with_the_model(name, tmp_path):
    model = build_model(name, "nano")
    for parameter in trained_parameters(model).values():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    info = {"method": name, "size": "nano", "weights": None, "options": {}}
    report = export_model(model, info, tmp_path / "bundle", Options(folds="none"))
    assert report["parity"]["passed"] and torch.isfinite(torch.tensor(report["parity"]["deviation"]))
    manifest = Manifest.load(tmp_path / "bundle")
    assert manifest.method == name and manifest.text_depends_on_image == model.text_depends_on_image
