import io

import numpy as np
from PIL import Image

from vlseg.deploy.annotations import read_split
from vlseg.train.picture import LINE, PREDICTION, TILE, TRUTH, outline, prediction_sheet


def test_outline_is_the_edge_inside():
    mask = np.zeros((6, 7), bool)
    mask[1:5, 0:5] = True
    edge = outline(mask)
    assert edge.sum() == 20 - 6 and not (edge & ~mask).any()
    assert not edge[2:4, 1:4].any()
    assert outline(np.ones((3, 3), bool)).sum() == 8 and not outline(np.zeros((3, 3), bool)).any()


def test_sheet_shows_truth_and_prediction(shapes):
    samples = read_split(shapes, "val")
    png = prediction_sheet(lambda image, prompt: np.ones(image.shape[:2], bool), samples, "p1", rows=3)
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    assert sheet.shape == (3 * (TILE + LINE), 3 * TILE, 3)
    tiles = [sheet[LINE : LINE + TILE, i * TILE : (i + 1) * TILE] for i in range(3)]
    assert not (tiles[0] == TRUTH).all(-1).any() and (tiles[1] == TRUTH).all(-1).any()
    assert (tiles[2][0] == PREDICTION).all()
