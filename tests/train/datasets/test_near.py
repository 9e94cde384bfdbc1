import io

import numpy as np
from PIL import Image, ImageEnhance

from vlseg.train.datasets.near import NEAR, near_pairs, perceptual_hash


def scene(seed):
    """Return a picture with structure at several scales."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((300, 240), Image.Resampling.BICUBIC))


def compressed(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


def bits(a, b):
    return int((perceptual_hash(a) != perceptual_hash(b)).sum())


def test_resizing_light_and_compression_hardly_change_a_hash():
    for seed in range(5):
        picture = scene(seed)
        image = Image.fromarray(picture)
        assert bits(picture, compressed(picture)) <= NEAR
        assert bits(picture, np.asarray(image.resize((131, 97), Image.Resampling.BILINEAR))) <= NEAR
        assert bits(picture, np.asarray(ImageEnhance.Brightness(image).enhance(0.8))) <= NEAR
        assert bits(picture, scene(seed + 100)) > 2 * NEAR


def test_pairs_of_different_groups_alone_nearest_first():
    rng = np.random.default_rng(0)
    hashes = rng.random((3000, 256)) < 0.5
    hashes[2500] = hashes[7]
    hashes[2600], hashes[2600, :10] = hashes[8], ~hashes[8, :10]
    hashes[2700] = hashes[9]
    groups = ["train"] * 2000 + ["test"] * 700 + ["train"] * 300
    assert near_pairs(hashes, groups) == [(7, 2500, 0), (8, 2600, 10)]


def test_flat_pictures_are_like_no_other():
    flat = np.stack([perceptual_hash(np.full((30, 30, 3), value, np.uint8)) for value in (0, 200)])
    assert not flat.any() and near_pairs(flat, ["train", "test"]) == []
