"""The published data sets: for each, what it shows, where it comes from, and how its owners lay it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .items import TEST, TRAIN, VAL
from .layouts import Layout
from .tree import Part

VOC = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
       "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")  # fmt: skip
CITYSCAPES = {7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
              20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
              27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"}  # fmt: skip
CAMUS = {"1": "left ventricular cavity", "2": "myocardium", "3": "left atrium"}
_FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Lung Lesion",
             "Pleural Effusion", "Pneumothorax", "Support Devices")  # fmt: skip
# one finding goes by two names
FINDINGS = {name: name.lower() for name in _FINDINGS} | dict.fromkeys(
    ("Airspace Opacity", "Lung Opacity"), "airspace opacity"
)
LONG = {TRAIN: "training", VAL: "validation"}


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        title: its name.
        home: where its owners give it out.
        classes: by the label of a class its words; by "" where a mask has one object class.
        layouts: the ways it is published; the first of which nothing is missing counts.
        known_as: its folder among the published prompt files.
        prefixes: by split, what stands before those files' mask names in our layout.
        sentence: what p1 says of a class without such files.
        copies: a split that is the same as another.
    """

    title: str
    home: str
    classes: Mapping[str, str]
    layouts: tuple[Layout, ...]
    known_as: str = ""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    sentence: str = "{phrase}"
    copies: Mapping[str, str] = field(default_factory=dict)


def _camus(image: Part, mask: Part, lists: Part | None = None) -> Layout:
    stem = "{patient}_{view}_{time}"
    where = "{part}/" if lists is None else ""
    return Layout(
        image,
        mask,
        lists,
        reads="labels",
        key=f"{where}{stem}",
        name=f"{{folder}}/{stem}",
        mask_name=f"{{folder}}/mask_{{index}}/{stem}_gt",
        group=f"{where}{{patient}}",
        folders={TRAIN: TRAIN, VAL: TRAIN, TEST: TEST},
    )


_FRAME = r"(?P<patient>patient\d+)/(?P=patient)_(?P<view>2CH|4CH)_(?P<time>ED|ES)"
# tables of text, where a data set has them, name its images or masks as these folders do
_TEXTED = Layout(
    Part(r"(?i)(?P<split>train|val|test)_folder/img/(?P<key>[^/]+)\.(?:png|jpe?g)$", "Train_Folder/img/0001.png"),
    Part(
        r"(?i)(?P<split>train|val|test)_folder/labelcol/(?:mask_)?(?P<key>[^/]+)\.png$",
        "Train_Folder/labelcol/0001.png",
    ),
)

DATASETS: dict[str, DataSet] = {
    "kvasir": DataSet(
        "Kvasir-SEG",
        "https://datasets.simula.no/kvasir-seg/",
        {"": "polyp"},
        (
            Layout(
                Part(r"(?:^|/)images/(?P<key>[^/]+)\.jpg$", "Kvasir-SEG/images/cju0qkwl35piu0993l0dewei2.jpg"),
                Part(r"(?:^|/)masks/(?P<key>[^/]+)\.jpg$", "Kvasir-SEG/masks/cju0qkwl35piu0993l0dewei2.jpg"),
            ),
        ),
        known_as="kvasir_polyp",
    ),
    "bkai": DataSet(
        "BKAI-IGH NeoPolyp",
        "https://www.kaggle.com/c/bkai-igh-neopolyp/data",
        {"": "polyp"},
        (
            Layout(
                Part(r"(?:^|/)train/(?P<key>[^/]+)\.jpeg$", "train/train/0a0317371a966bf4b3466463a3c64db1.jpeg"),
                Part(
                    r"(?:^|/)train_gt/(?P<key>[^/]+)\.jpeg$", "train_gt/train_gt/0a0317371a966bf4b3466463a3c64db1.jpeg"
                ),
            ),
        ),
        known_as="bkai_polyp",
    ),
    "clinicdb": DataSet(
        "CVC-ClinicDB",
        "https://www.kaggle.com/datasets/balraj98/cvcclinicdb",
        {"": "polyp"},
        (
            Layout(
                Part(r"(?:^|/)PNG/Original/(?P<key>\d+)\.png$", "PNG/Original/1.png"),
                Part(r"(?:^|/)PNG/Ground Truth/(?P<key>\d+)\.png$", "PNG/Ground Truth/1.png"),
            ),
            Layout(
                Part(r"(?:^|/)Original/(?P<key>\d+)\.tiff?$", "CVC-ClinicDB/Original/1.tif"),
                Part(r"(?:^|/)Ground Truth/(?P<key>\d+)\.tiff?$", "CVC-ClinicDB/Ground Truth/1.tif"),
            ),
        ),
        known_as="clinicdb_polyp",
    ),
    "isic16": DataSet(
        "ISIC 2016, part 1",
        "https://challenge.isic-archive.com/data/",
        {"": "skin melanoma"},
        (
            Layout(
                Part(
                    r"Part1_(?P<split>Training|Test)_Data/(?P<key>ISIC_\d+)\.jpg$",
                    "ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg",
                ),
                Part(
                    r"Part1_(?P<split>Training|Test)_GroundTruth/(?P<key>ISIC_\d+)_Segmentation\.png$",
                    "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png",
                ),
                mask_name="{key}_Segmentation",
            ),
        ),
        known_as="isic",
    ),
    "dfu": DataSet(
        "DFU 2022",
        "https://dfu-challenge.github.io/dfuc2022.html",
        {"": "foot ulcer"},
        (
            Layout(
                Part(r"(?i)train_images/(?P<key>\d+)\.jpg$", "DFUC2022_train_images/100001.jpg"),
                Part(r"(?i)train_masks/(?P<key>\d+)\.png$", "DFUC2022_train_masks/100001.png"),
            ),
        ),
        known_as="dfu",
    ),
    "camus": DataSet(
        "CAMUS",
        "https://www.creatis.insa-lyon.fr/Challenge/camus/",
        CAMUS,
        (
            _camus(
                Part(
                    rf"(?P<part>(?P<split>training|testing))/{_FRAME}\.mhd$",
                    "training/patient0001/patient0001_2CH_ED.mhd",
                ),
                Part(
                    rf"(?P<part>training|testing)/{_FRAME}_gt\.mhd$", "training/patient0001/patient0001_2CH_ED_gt.mhd"
                ),
            ),
            _camus(
                Part(rf"{_FRAME}\.nii\.gz$", "database_nifti/patient0001/patient0001_2CH_ED.nii.gz"),
                Part(rf"{_FRAME}_gt\.nii\.gz$", "database_nifti/patient0001/patient0001_2CH_ED_gt.nii.gz"),
                Part(r"subgroup_(?P<split>training|validation|testing)\.txt$", "database_split/subgroup_training.txt"),
            ),
        ),
        known_as="camus",
        prefixes={TRAIN: "train/", VAL: "train/", TEST: "test/"},
    ),
    "busi": DataSet(
        "BUSI",
        "https://www.kaggle.com/datasets/aryashah2k/breast-ultrasound-images-dataset",
        {"": "breast tumor"},
        (
            Layout(
                Part(
                    r"(?P<kind>benign|malignant|normal)/(?P=kind) \((?P<number>\d+)\)\.png$",
                    "Dataset_BUSI_with_GT/benign/benign (1).png",
                ),
                Part(
                    r"(?P<kind>benign|malignant|normal)/(?P=kind) \((?P<number>\d+)\)_mask(?:_\d+)?\.png$",
                    "Dataset_BUSI_with_GT/benign/benign (1)_mask.png",
                ),
                key="{number}_{kind}",
            ),
        ),
        known_as="busi",
    ),
    "chexlocalize": DataSet(
        "CheXlocalize",
        "https://stanfordaimi.azurewebsites.net/datasets/23c56a0d-15de-405b-87c8-99c30138950c",
        FINDINGS,
        (
            Layout(
                Part(
                    r"(?P<patient>patient\d+)/(?P<study>study\d+)/(?P<view>view\d+_\w+)\.jpg$",
                    "CheXpert/val/patient64541/study1/view1_frontal.jpg",
                ),
                Part(r"gt_segmentations_(?:val|test)\.json$", "CheXlocalize/gt_segmentations_val.json"),
                reads="runs",
                key="{patient}_{study}_{view}",
                mask_name="{name}_{slug}",
                group="{patient}",
            ),
        ),
        known_as="chexlocalize",
    ),
    "qata-cov19": DataSet(
        "QaTa-COV19 v2",
        "https://www.kaggle.com/datasets/aysendegerli/qatacov19-dataset",
        {"": "COVID-19 infection"},
        (
            Layout(
                Part(
                    r"(?i)v2/(?P<split>train|test) set/images/(?P<key>[^/]+)\.png$",
                    "QaTa-COV19/QaTa-COV19-v2/Train Set/Images/covid_1.png",
                ),
                Part(
                    r"(?i)v2/(?P<split>train|test) set/ground-truths/mask_(?P<key>[^/]+)\.png$",
                    "QaTa-COV19/QaTa-COV19-v2/Train Set/Ground-truths/mask_covid_1.png",
                ),
                mask_name="mask_{key}",
            ),
            _TEXTED,
        ),
    ),
    "mosmeddata": DataSet(
        "MosMedData+",
        "https://github.com/HUANGLIZI/LViT",
        {"": "COVID-19 infection"},
        (_TEXTED,),
    ),
    "voc2012": DataSet(
        "PASCAL VOC 2012, a mask for each class",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        {str(number): name for number, name in enumerate(VOC, 1)},
        (
            Layout(
                Part(r"VOC2012/JPEGImages/(?P<key>[^/]+)\.jpg$", "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg"),
                Part(
                    r"VOC2012/SegmentationClass/(?P<key>[^/]+)\.png$",
                    "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png",
                ),
                Part(
                    r"ImageSets/Segmentation/(?P<split>train|val)\.txt$",
                    "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",
                ),
                reads="labels",
                name="{folder}/{key}",
                mask_name="{folder}/{slug}/{key}",
                folders=LONG,
            ),
        ),
        sentence="{phrase}.",
        copies={TEST: VAL},
    ),
    "cityscapes": DataSet(
        "Cityscapes, a mask for each class",
        "https://www.cityscapes-dataset.com/",
        {str(number): name for number, name in CITYSCAPES.items()},
        (
            Layout(
                Part(
                    r"leftImg8bit/(?P<split>train|val)/[^/]+/(?P<key>[^/]+)_leftImg8bit\.png$",
                    "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
                ),
                Part(
                    r"gtFine/(?P<split>train|val)/[^/]+/(?P<key>[^/]+)_gtFine_labelIds\.png$",
                    "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
                ),
                reads="labels",
                name="{folder}/{key}",
                mask_name="{folder}/{slug}/{key}",
                folders=LONG,
            ),
        ),
        sentence="{phrase}.",
        copies={TEST: VAL},
    ),
}


def listing() -> list[dict[str, str]]:
    """Return one row for each data set: `{name, title, home, image, mask, classes}`, files as first published."""
    return [
        {
            "name": name,
            "title": dataset.title,
            "home": dataset.home,
            "image": dataset.layouts[0].image.example,
            "mask": dataset.layouts[0].mask.example,
            "classes": ", ".join(dict.fromkeys(dataset.classes.values())),
        }
        for name, dataset in DATASETS.items()
    ]
