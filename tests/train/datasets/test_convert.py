import gzip
import io
import json
import re
import struct
import zipfile

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image

from vlseg.deploy.annotations import read_pair, read_split
from vlseg.deploy.errors import UserError
from vlseg.train.datasets.convert import convert
from vlseg.train.datasets.published import DATASETS, listing


def noise(seed, height=20, width=24):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blob(height=20, width=24, value=255, at=(4, 5), size=(8, 9)):
    mask = np.zeros((height, width), np.uint8)
    mask[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = value
    return mask


def encoded(values, name):
    file = io.BytesIO()
    Image.fromarray(values).save(file, {"jpg": "JPEG", "jpeg": "JPEG"}.get(name.rsplit(".", 1)[-1], "PNG"))
    return file.getvalue()


def nifti(values):
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 2, values.shape[1], values.shape[0], 1, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 2, 8)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    return gzip.compress(bytes(head) + values.tobytes())


def mhd(values):
    head = f"NDims = 2\nDimSize = {values.shape[1]} {values.shape[0]}\nElementType = MET_UCHAR\nElementDataFile = "
    return head, values.tobytes()


def camus_old(part, patient):
    stem = f"{part}/{patient}/{patient}_2CH_ED"
    labels = blob(value=1) + blob(value=2, at=(13, 5), size=(4, 4))
    files = {}
    for name, values in ((stem, noise(5)[..., 0]), (f"{stem}_gt", labels)):
        head, raw = mhd(values)
        files |= {f"{name}.mhd": head + f"{name.rsplit('/', 1)[1]}.raw\n", f"{name}.raw": raw}
    return files


def camus_nifti(patient):
    stem = f"database_nifti/{patient}/{patient}_4CH_ES"
    return {f"{stem}.nii.gz": nifti(noise(6)[..., 0]), f"{stem}_gt.nii.gz": nifti(blob(value=3))}


def runs(*labels):
    return {label: {"size": [20, 24], "counts": [0, 40, 440]} for label in labels}


BUSI = {f"Dataset_BUSI_with_GT/{kind}/{kind} ({n}).png": noise(n) for kind in ("benign", "normal") for n in (1, 2)}
BUSI |= {f"{name[:-4]}_mask.png": blob(value=0 if "normal" in name else 255) for name in BUSI}
BUSI["Dataset_BUSI_with_GT/benign/benign (1)_mask_1.png"] = blob(at=(14, 15), size=(3, 3))
ISIC = {
    f"ISBI2016_ISIC_Part1_{part}_{kind}/ISIC_{n:07d}{end}": draw
    for part, numbers in (("Training", range(10)), ("Test", range(10, 13)))
    for n in numbers
    for kind, end, draw in (("Data", ".jpg", noise(n)), ("GroundTruth", "_Segmentation.png", blob()))
}
TWO = {n: blob(value=15) + blob(value=n, at=(14, 15), size=(3, 3)) for n in (1, 2, 3)}
VOC = {
    "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": "2007_1\n2007_2\n",
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": "2007_3\n",
    "VOCdevkit/VOC2012/JPEGImages/2007_9.jpg": noise(9),
}
VOC |= {f"VOCdevkit/VOC2012/JPEGImages/2007_{n}.jpg": noise(n) for n in TWO}
VOC |= {f"VOCdevkit/VOC2012/SegmentationClass/2007_{n}.png": labels for n, labels in TWO.items()}
VOC["VOCdevkit/VOC2012/SegmentationClass/2007_1.png"][0] = 255
STREET = blob(value=26) + blob(value=19, at=(14, 15), size=(3, 3))
CITY = {f"leftImg8bit/{split}/ulm/ulm_{n}_leftImg8bit.png": noise(n) for split, n in (("train", 1), ("val", 2))}
CITY |= {f"gtFine/{split}/ulm/ulm_{n}_gtFine_labelIds.png": STREET for split, n in (("train", 1), ("val", 2))}
CITY["gtFine/train/ulm/ulm_1_gtFine_color.png"] = noise(3)
QATA = {
    f"QaTa-COV19-v2/{split} Set/{folder}/{prefix}{split}{n}.png": draw
    for split, count in (("Train", 10), ("Test", 2))
    for n in range(count)
    for folder, prefix, draw in (("Images", "", noise(n)), ("Ground-truths", "mask_", blob()))
}
FOLDERS = {
    f"MosMed/{split}_Folder/{folder}/{split}{n}.png": draw
    for split in ("Train", "Val", "Test")
    for n in range(2)
    for folder, draw in (("img", noise(n)), ("labelcol", blob(value=1)))
}


def pairs(images, masks, image_end, mask_end, numbers):
    return {f"{images}/{n}{image_end}": noise(n) for n in numbers} | {f"{masks}/{n}{mask_end}": blob() for n in numbers}


TEN = range(100001, 100011)
SOURCES = {
    "kvasir": (pairs("Kvasir-SEG/images", "Kvasir-SEG/masks", ".jpg", ".jpg", TEN), {"train": 8, "val": 1, "test": 1}),
    "bkai": (pairs("train/train", "train_gt/train_gt", ".jpeg", ".jpeg", TEN), {"train": 8, "val": 1, "test": 1}),
    "clinicdb": (pairs("PNG/Original", "PNG/Ground Truth", ".png", ".png", TEN), {"train": 8, "val": 1, "test": 1}),
    "isic16": (ISIC, {"train": 9, "val": 1, "test": 3}),
    "dfu": (
        pairs("DFUC2022_train_images", "DFUC2022_train_masks", ".jpg", ".png", TEN), {"train": 8, "val": 1, "test": 1}
    ),
    "camus": (
        {k: v for n in range(10) for k, v in camus_old("training", f"patient{n:04d}").items()}
        | camus_old("testing", "patient0001"),
        {"train": 18, "val": 2, "test": 2},
    ),
    "busi": (BUSI, {"train": 2, "val": 1, "test": 1}),
    "chexlocalize": (
        {f"CheXpert/val/patient{n}/study1/view1_frontal.jpg": noise(n) for n in range(11)}
        | {
            "CheXlocalize/gt_segmentations_val.json": json.dumps(
                {f"patient{n}_study1_view1_frontal": runs("Support Devices", "Lung Opacity") for n in range(10)}
            )
        },
        {"train": 16, "val": 2, "test": 2},
    ),
    "qata-cov19": (QATA, {"train": 9, "val": 1, "test": 2}),
    "mosmeddata": (FOLDERS, {"train": 2, "val": 2, "test": 2}),
    "voc2012": (VOC, {"train": 4, "val": 2, "test": 2}),
    "cityscapes": (CITY, {"train": 2, "val": 2, "test": 2}),
}  # fmt: skip


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, encoded(content, name) if isinstance(content, np.ndarray) else content)
    return path


@pytest.mark.parametrize("name", DATASETS)
def test_a_published_archive_becomes_our_layout(name, tmp_path):
    files, samples = SOURCES[name]
    archive = zipped(tmp_path / f"{name}.zip", files | {"README.txt": "read me"})
    out = tmp_path / "out"
    report = convert(name, archive, out)
    assert report["samples"] == samples
    assert json.loads((out / "source.json").read_text()) == report
    for split, count in samples.items():
        read = read_split(out, split)
        assert len(read) == count
        for sample in read:
            image, mask = read_pair(sample)
            assert image.shape[:2] == mask.shape == (20, 24)
            assert sample.prompts["p0"] == "" and sample.prompts["p1"].rstrip(".") in listing_of(name)
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, "out"}


def listing_of(name):
    return next(row["classes"] for row in listing() if row["name"] == name).split(", ")


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_missing_is_named(name, tmp_path, lay):
    with pytest.raises(UserError, match=re.escape(DATASETS[name].home)) as caught:
        convert(name, lay({"README.txt": "nothing"}), tmp_path / "out")
    layout = DATASETS[name].layouts[0]
    assert layout.image.example in str(caught.value) and layout.mask.example in str(caught.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", DATASETS)
def test_examples_are_what_the_patterns_find(name):
    for layout in DATASETS[name].layouts:
        for part in (layout.image, layout.mask, layout.lists):
            assert part is None or re.search(part.pattern, part.example)
        assert not re.search(layout.image.pattern, layout.mask.example)


def test_masks_are_what_was_published(tmp_path, lay):
    convert("busi", lay(BUSI), tmp_path / "busi")
    busi = [sample for split in ("train", "val", "test") for sample in read_split(tmp_path / "busi", split)]
    masks = {sample.name: read_pair(sample)[1] for sample in busi}
    assert masks["1_benign"].sum() == 8 * 9 + 9 and masks["2_benign"].sum() == 72 and not masks["1_normal"].any()
    convert("voc2012", lay(VOC, "voc-source"), tmp_path / "voc")
    person, plane = read_split(tmp_path / "voc", "train")[:2][::-1]
    assert (plane.prompts["p1"], person.prompts["p1"]) == ("aeroplane.", "person.")
    assert plane.mask == tmp_path / "voc/masks/training/aeroplane/2007_1.png" and plane.name == "training/2007_1"
    np.testing.assert_array_equal(read_pair(person)[1], VOC["VOCdevkit/VOC2012/SegmentationClass/2007_1.png"] == 15)
    assert (tmp_path / "voc/anns/val.json").read_text() == (tmp_path / "voc/anns/test.json").read_text()
    convert("cityscapes", lay(CITY, "city-source"), tmp_path / "city")
    assert {s.prompts["p1"] for s in read_split(tmp_path / "city", "val")} == {"car.", "traffic light."}
    original = lay(BUSI) / "Dataset_BUSI_with_GT/benign/benign (1).png"
    assert (tmp_path / "busi/images/1_benign.png").read_bytes() == original.read_bytes()


def test_camus_as_nifti_with_its_lists(tmp_path, lay):
    files = {k: v for n in (1, 2, 3) for k, v in camus_nifti(f"patient000{n}").items()}
    for n, part in enumerate(("training", "validation", "testing"), 1):
        files[f"database_split/subgroup_{part}.txt"] = f"patient000{n}\n"
    report = convert("camus", lay(files), tmp_path / "out")
    assert report["samples"] == {"train": 1, "val": 1, "test": 1}
    sample = read_split(tmp_path / "out", "val")[0]
    assert sample.prompts["p1"] == "left atrium" and sample.mask.parent.name == "mask_3"
    np.testing.assert_array_equal(read_pair(sample)[1], blob() > 0)
    np.testing.assert_array_equal(read_pair(sample)[0][..., 0], noise(6)[..., 0])


def script(*entries):
    return json.dumps([{"img_name": i, "mask_name": m, "prompts": {"p0": "", "p1": ["a", "b"]}} for i, m in entries])


@pytest.mark.parametrize("below", ["", "anns/", "isic/anns/", "data/isic/anns/"])
def test_published_prompts_say_splits_and_sentences(tmp_path, lay, below):
    first, second, third = (f"ISIC_{n:07d}" for n in (0, 1, 11))
    prompts = lay(
        {
            f"{below}train.json": script((f"{first}.jpg", f"{first}_Segmentation.png")),
            f"{below}val.json": script((f"{second}.jpg", f"{second}_Segmentation.png")),
            f"{below}test.json": script((f"{third}.jpg", f"{third}_Segmentation.png")),
        },
        "prompts",
    )
    report = convert("isic16", lay(ISIC), tmp_path / "out", prompts=prompts)
    assert report["samples"] == {"train": 1, "val": 1, "test": 1}
    assert (report["images"], report["images_found"], report["prompts"]) == (3, 13, "published files")
    assert read_split(tmp_path / "out", "train")[0].prompts == {"p0": "", "p1": ["a", "b"]}


def test_camus_prompts_know_their_part(tmp_path, lay):
    files = camus_old("training", "patient0001") | camus_old("testing", "patient0001")
    named = [("patient0001_2CH_ED.png", f"mask_{i}/patient0001_2CH_ED_gt.png") for i in (1, 2)]
    prompts = lay({"val.json": script(named[0]), "test.json": script(*named)}, "prompts")
    convert("camus", lay(files), tmp_path / "out", prompts=prompts)
    assert [s.mask.parent.parent.name for s in read_split(tmp_path / "out", "test")] == ["test", "test"]
    assert [s.name for s in read_split(tmp_path / "out", "val")] == ["train/patient0001_2CH_ED"]


def sheet(path, rows):
    book = Workbook()
    for row in [("Image", "Description"), *rows]:
        book.active.append(row)
    book.save(path)


def test_tables_of_text(tmp_path, lay):
    texts = tmp_path / "texts"
    texts.mkdir()
    sheet(texts / "Train_text_for_Covid19.xlsx", [(f"mask_Train{n}.png", f"Bilateral, {n} areas ") for n in range(7)])
    sheet(texts / "Val_text_for_Covid19.xlsx", [(f"mask_Train{n}.png", "Unilateral") for n in (7, 8)])
    (texts / "Test_text_for_Covid19.csv").write_text("Image,Description\nTest0.png,Nothing\n")
    report = convert("qata-cov19", lay(QATA), tmp_path / "out", prompts=texts)
    assert report["samples"] == {"train": 7, "val": 2, "test": 1}
    sample = next(s for s in read_split(tmp_path / "out", "train") if s.name == "Train3")
    assert sample.prompts == {"p0": "", "p1": "COVID-19 infection", "p2": "Bilateral, 3 areas"}
    source = lay(FOLDERS, "mosmed")
    for split in ("Train", "Val", "Test"):
        sheet(source / f"MosMed/{split}_Folder/{split}_text.xlsx", [(f"{split}{n}.png", "x") for n in range(2)])
    assert convert("mosmeddata", source, tmp_path / "mos")["prompts"] == "published files"


def test_several_archives_in_a_folder(tmp_path):
    source = tmp_path / "isic"
    source.mkdir()
    for part in ("Training", "Test"):
        for kind in ("Data", "GroundTruth"):
            folder = f"ISBI2016_ISIC_Part1_{part}_{kind}"
            zipped(source / f"{folder}.zip", {k: v for k, v in ISIC.items() if k.startswith(folder + "/")})
    assert convert("isic16", source, tmp_path / "out")["samples"] == {"train": 9, "val": 1, "test": 3}


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ({"train.json": script(("ISIC_9.jpg", "ISIC_9_Segmentation.png"))}, "1 of 1 masks that the prompts"),
        ({"train.json": "[{}]"}, "without mask_name"),
        ({"train.json": '[{"mask_name": "a.png"}]'}, "without prompts"),
        ({"train.json": "no json"}, "not valid JSON"),
        ({"other.txt": ""}, "holds no prompts"),
        ({"Train_text.xlsx": "no table"}, "cannot read the table"),
    ],
)
def test_bad_prompts(tmp_path, lay, prompts, says):
    with pytest.raises(UserError, match=says):
        convert("isic16", lay(ISIC), tmp_path / "out", prompts=lay(prompts, "prompts"))
    assert not (tmp_path / "out").exists()


def test_bad_arguments(tmp_path, lay):
    source = lay(ISIC)
    with pytest.raises(UserError, match="known: coco, yolo, index-mask, kvasir"):
        convert("isic17", source, tmp_path / "out")
    with pytest.raises(UserError, match="no folder of prompts"):
        convert("isic16", source, tmp_path / "out", prompts=tmp_path / "none")
    with pytest.raises(UserError, match="leave them out"):
        convert("coco", source, tmp_path / "out", prompts=source)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    with pytest.raises(UserError, match="not ours"):
        convert("isic16", source, tmp_path / "mine")
    convert("isic16", source, tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        convert("isic16", source, tmp_path / "out")
    convert("isic16", source, tmp_path / "out", overwrite=True)


def test_half_a_source_is_refused(tmp_path, lay):
    files = dict(ISIC)
    del files["ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000011_Segmentation.png"]
    with pytest.raises(UserError, match=r"1 of 13 images have no mask \(ISIC_0000011\)"):
        convert("isic16", lay(files), tmp_path / "out")
