"""Trains the small tokenizer of the embedded base: byte-level BPE, lower case, at most 1,024 entries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..deploy.files import atomic_write
from . import sentences

CONTEXT = 77
VOCABULARY = 1024
BOS, EOS = "<|startoftext|>", "<|endoftext|>"

# Everyday words of medical imaging that the drawn sentences do not hold.
CLINICAL = """
abdomen abnormal acute adenocarcinoma airway anatomy aneurysm anterior aorta artery asymmetric atypical axial benign
bilateral biopsy bladder bleeding blood blurred body bone border bowel brain breast bright bronchus bumpy
calcification cancer carcinoma cardiac cavity cell cells central cerebellum chest chronic clear clinical colon
colonoscopy color common consolidation contour contrast coronal cortex covid cyst cytoplasm dark dense densely
dermoscopy diagnosis diameter diffuse disc disease duct echo edema edge effusion elongated endoscopy enlarged
enhancement epithelium esophagus evidence eye fat female femur fetal field findings finding flat flesh fluid
fluorescence focal foot fracture gallbladder gland glioma gray green growth head healthy heart heart-shaped hematoma
hemorrhage hepatic hernia heterogeneous histology homogeneous hyperintense hypointense hypoechoic image imaging
implant infection infiltrate inflammation inflammatory intensity intestine kidney large lateral left lens lesion light
lining liver lobe located lower lump lung lungs lymph magnetic male malignant mammography mandible margin marker mask
mass median melanoma membrane metastasis microscopy middle mild moderate moderately mole mottled mucosa muscle
mushroom-like nail neck necrosis nerve network neural nevus node nodule normal nuclei nucleus oblique opacity optic
orange organ outline oval packed pancreas partly pathology patient patient's pelvis peripheral pigment pigmentation
plaque pleural pneumonia pneumothorax polyp positive posterior projecting prostate pulmonary pupil purple-stained
radiograph radiological rectum region resection resonance retina rib right rough round scan scar sections segment
septum severe shadow sharp sigmoid sign signal sinus skin slice smear smooth soft sparse specimen spine spleen spot
stained stalks stenosis stomach structure subcutaneous superior surface surgical swelling symmetric symptomatic tear
texture thickening thin thorax thyroid tissue tool tooth trachea tract tumor tumour typical ulcer ultrasound upper
ureter uterus valve vascular vein ventricle vertebra vessel view visible visual wall white wound x-ray yellow years
old both no not with without and or of the a an is are has one two three four many several around between above below
near inside outside on in at to from shape shaped size sized small medium big huge tiny circle semicircle rectangle
triangle square light brown dark brown red blue black pink purple gray
"""


def corpus(count: int = 20_000, seed: int = 0) -> list[str]:
    """Drawn sentences and clinical words, a function of the seed."""
    rng = np.random.default_rng(seed)
    drawn = [sentences.say(_any_phrase(rng), int(rng.integers(0, 7)), rng) for _ in range(count)]
    return drawn + [f" {word}" for word in CLINICAL.split() for _ in range(30)]


def train_tokenizer(texts: list[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Byte-level BPE over `texts`; BOS and EOS are the two last ids, since the text tower finds EOS by argmax.

    Any Unicode string can be encoded; sequences are cut to 77 ids, the last of them EOS.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace("\n", " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 2, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([BOS, EOS])
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, bos), (EOS, eos)]
    )
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(pad_id=eos, pad_token=EOS)
    return tokenizer


def write_tokenizer(path: Path, seed: int = 0) -> None:
    """Train the embedded base's tokenizer and write its `tokenizer.json`."""
    atomic_write(path, train_tokenizer(corpus(seed=seed)).to_str(pretty=True).encode())


def _any_phrase(rng: np.random.Generator) -> sentences.Phrase:
    words = {name: str(rng.choice(choices)) for name, choices in sentences.WORDS.items()}
    return sentences.Phrase(**{name: word for name, word in words.items() if rng.random() < 0.6})
