"""A model card: what a run or a bundle is, on what it was trained and how good it was there, and what it is not.

It is made of what `run.json` and the manifest say, and holds nothing private: no path, no image's name, no sentence.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from ...deploy.manifest import Manifest
from .methods import METHODS, backbone_of

CARD = "MODEL_CARD.md"
LICENCES = {  # by the beginning of the frozen weights' name; as their publishers state it
    "vlseg/": "Apache-2.0, that of this package",
    "CIDAS/clipseg": "Apache-2.0",
    "facebook/sam-vit": "Apache-2.0, and so has the BERT beside it",
    "openai/clip": "MIT is that of the publisher's code; the weights state none",
    "DerrickWang005/CRIS": "MIT is that of the publisher's code; the weights state none",
}
UNKNOWN = "not known here: ask where the weights came from"
DRAWN = "The frozen weights were trained on drawn scenes alone and have seen no real image before any training here."
CHANCE = "The frozen weights are random numbers: this shows that the road works, and nothing else."
NO_STATEMENT = "It draws a mask for whatever it is asked; a mask is no statement that something is there."
UNSAID = "not recorded"
NOT_A_DEVICE = "**Research software, not a medical device.** No diagnosis and no treatment may rest on what it draws."


def run_card(info: Mapping[str, Any]) -> str:
    """Return the card of a run, in Markdown, from its `run.json`."""
    title = f"{info['method']}, trained on {_name(info)}"
    return _card(title, info, [*_what(info), *_data(info), *_metrics(info)], _limits(info))


def bundle_card(manifest: Manifest, infos: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the card of a bundle, in Markdown, from its manifest and the `run.json` of each adapter in it, by name."""
    info = next(iter(infos.values()))
    body = _what(info)
    if _is_frozen(info):
        title = f"{info['method']}, exported as a bundle, nothing of it trained here"
        return _card(title, info, [*body, *_bundle(manifest)], _limits(info))
    for name, one in infos.items():
        head = [f"# Adapter {_plain(name)}", ""] if len(infos) > 1 else []
        body += [*head, *_data(one), *_metrics(one)]
    title = f"{info['method']}, exported as a bundle, trained on {', '.join(map(_name, infos.values()))}"
    limits = [limit for one in infos.values() for limit in _limits(one)]
    return _card(title, info, [*body, *_bundle(manifest)], list(dict.fromkeys(limits)))


def _card(title: str, info: Mapping[str, Any], body: Sequence[str], limits: Sequence[str]) -> str:
    facts = ModelCardData(
        library_name="vlseg",
        pipeline_tag="image-segmentation",
        base_model=None if (name := origin(info)).startswith("vlseg/") or "/" not in name else name,
        tags=["medical-image-segmentation", "text-prompted-segmentation", info["method"]],
    )
    end = ["## Limits", "", *(f"- {limit}" for limit in limits), ""]
    return "\n".join(["---", facts.to_yaml(), "---", "", f"# {title}", "", NOT_A_DEVICE, "", *body, *end])


def _what(info: Mapping[str, Any]) -> list[str]:
    name, hexes = origin(info), str(info.get("weights_hash", ""))[:16]
    licence = next((text for start, text in LICENCES.items() if name.startswith(start)), UNKNOWN)
    paper = METHODS[info["method"]].paper
    trained = info.get("trained_parameters")
    whole = info["method"].startswith("image/")
    rest = f"- Frozen weights: {name}, SHA-256 {hexes or UNSAID}. Licence: {licence}."
    return [
        "## What it is",
        "",
        f"- Method: `{info['method']}`, size `{info['size']}` ({paper}).",
        f"- Trained parameters: {f'{trained:,}' if trained is not None else 'none' if _is_frozen(info) else UNSAID}.",
        "- Nothing in it was trained before." if whole else rest,
        f"- Made by vlseg, {str(info['created'])[:10] if info.get('created') else 'date ' + UNSAID}.",
        "",
    ]


def _data(info: Mapping[str, Any]) -> list[str]:
    images = info.get("images", {})
    counts = ", ".join(f"{count:,} {split}" for split, count in images.items()) or "not recorded"
    prompt, learned = _plain(str(info.get("prompt", "not recorded"))), info.get("learned", [])
    return [
        "## Data",
        "",
        f"- Data set: {_name(info)}. Images: {counts}.",
        *(["- Learned before, in turn: " + ", ".join(map(_plain, learned)) + "."] if learned else []),
        f"- Asked with the prompt key `{prompt}` of the data set's annotations.",
        "",
    ]


def _metrics(info: Mapping[str, Any]) -> list[str]:
    metrics = _judged(info)
    if not metrics:
        return ["## Metrics", "", "None were recorded.", ""]
    lines = [
        f"| {split} | {_count(one, info, split)} | {_figure(one, 'dice')} | {_figure(one, 'iou')} | "
        f"{_figure(one, 'hd95', 1)} |"
        for split, one in _by_folder(metrics)
    ]
    threshold = f"Masks are cut at probability {info.get('threshold', 0.5)}, chosen on the validation images."
    head = ["| images | n | Dice | IoU | HD95, px |", "| --- | --- | --- | --- | --- |"]
    return ["## Metrics", "", "Means at the images' original size.", "", *head, *lines, "", threshold, ""]


def _by_folder(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each split with its metrics, and behind it each data folder of it where there are several."""
    for split, one in metrics.items():
        yield _plain(split), one
        yield from ((f"{_plain(split)}, {_plain(name)}", own) for name, own in one.get("sets", {}).items())


def _bundle(manifest: Manifest) -> list[str]:
    parity, prompts = manifest.parity, len(manifest.fixed_prompts)
    asked = f"{prompts} fixed prompt{'s' * (prompts != 1)}" if prompts else "any sentence"
    proof = (
        f"On {parity['images']} images its masks agree with the trained model's: Dice {parity['dice_min']:.5f} or more."
        if "dice_min" in parity and "images" in parity
        else "No proof of parity is in it."
    )
    return ["## The bundle", "", f"- Precision {manifest.precision}, answers {asked}.", f"- {proof}", ""]


def _limits(info: Mapping[str, Any]) -> list[str]:
    metrics = _judged(info)
    limits = []
    if info.get("weights") == "random" or "random" in origin(info) or info["size"] == "nano":
        limits.append(CHANCE)
    elif origin(info).startswith("vlseg/"):
        limits.append(DRAWN)
    if _is_frozen(info):
        return [*limits, "It was judged on no image here.", NO_STATEMENT]
    if "test" not in metrics:
        limits.append("No test image was looked at: the figures are of the images that chose epoch and threshold.")
    elif one_empty := metrics["test"].get("hd95_one_empty"):
        limits.append(f"In {one_empty} of {metrics['test']['n']} test images exactly one of the two masks is empty.")
    return [
        *limits,
        "It was judged on images of the data it was trained on; other hospitals, devices and patients were not tried.",
        NO_STATEMENT,
    ]


def _is_frozen(info: Mapping[str, Any]) -> bool:
    return str(info["method"]).endswith("/frozen")


def _judged(info: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of each split, and nothing else that stands beside them."""
    return {name: one for name, one in info.get("metrics", {}).items() if isinstance(one, Mapping)}


def origin(info: Mapping[str, Any]) -> str:
    """Return where the frozen weights came from; a folder is only called local, since its path is nobody's business."""
    weights = info.get("weights")
    return {None: backbone_of(info["method"]).size(info["size"]).backbone, "random": "random"}.get(weights, "local")


def _name(info: Mapping[str, Any]) -> str:
    return _plain(str(info.get("data", "data that were not recorded")))


def _plain(text: str) -> str:
    """Return a name as one word that Markdown leaves alone."""
    return re.sub(r"[^\w .+-]+", "_", text)


def _count(one: Mapping[str, Any], info: Mapping[str, Any], split: str) -> str:
    count = one.get("n", info.get("images", {}).get(split))
    return "-" if count is None else f"{count:,}"


def _figure(one: Mapping[str, Any], name: str, digits: int = 3) -> str:
    value = one.get(name)
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"
