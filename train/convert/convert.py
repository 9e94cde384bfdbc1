"""`vlseg convert`: a foreign checkpoint becomes a folder of safetensors and JSON that `--weights` takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ...deploy.errors import UserError
from ...deploy.files import atomic_folder, write_json
from ...deploy.words import Tokenizer
from ..models.names import FILLED, check_names
from .checkpoint import read_checkpoint
from .kinds import Kind, expected_of, kind_of
from .openai import with_clip

MARKER = "converted.json"
CLIP_TOKENIZER = "openai/clip-vit-base-patch16"
DECODER_ALONE = "film_mul.weight"


def convert(
    file: Path | str,
    digest: str,
    to: Path | str,
    *,
    size: str = "base",
    clip: tuple[Path | str, str] | None = None,
    tokenizer: Path | str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Convert a checkpoint of CRIS, CLIP RN50, CLIP ViT-B/16, CLIPSeg or SAM, and return what was written.

    `digest` is the file's SHA-256. `clip` is OpenAI's ViT-B/16 archive and its SHA-256, for CLIPSeg's own release,
    which holds the decoder alone. `tokenizer` is CLIP's tokenizer.json or a folder with it; None asks the hub for it.
    The folder holds model.safetensors in the precision of the checkpoint, config.json, converted.json and, where the
    model hears words, a tokenizer.

    Raises:
        UserError: another hash, more than tensors, an unknown kind or size, another architecture (with the first names
            that differ), no tokenizer, or a folder that cannot be written.
    """
    path = Path(file)
    tensors = read_checkpoint(path, digest)
    if clip is not None:
        tensors = with_clip(tensors, read_checkpoint(Path(clip[0]), clip[1]))
    kind = kind_of(tensors, str(path))
    _check_whole(tensors, path)
    expected = expected_of(kind, size)
    named = {name: tensor.detach().clone().contiguous() for name, tensor in kind.rename(tensors).items()}
    check_names(named, expected, str(path), kind.optional)
    words = _tokenizer(tokenizer, kind.vocabulary(size)) if kind.vocabulary else None
    report = _report(kind, size, path, digest, named)
    with atomic_folder(to, MARKER, overwrite) as folder:
        save_file(_filled(named, expected), folder / "model.safetensors", metadata={"format": "pt"})
        write_json(folder / "config.json", kind.config(size))
        if words is not None:
            library = tokenizers.Tokenizer.from_str(words.json)
            PreTrainedTokenizerFast(tokenizer_object=library).save_pretrained(folder)
        write_json(folder / MARKER, report)
    return report | {"folder": str(to)}


def _check_whole(tensors: Mapping[str, Tensor], path: Path) -> None:
    if DECODER_ALONE in tensors and not any(name.startswith("clip_model.") for name in tensors):
        raise UserError(
            f"{path} holds CLIPSeg's decoder alone: pass OpenAI's ViT-B-16.pt with --clip and --clip-sha256"
        )


def _filled(named: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the counts of batch norms that old checkpoints lack, where the batch norm itself is there."""
    counts = {
        name: torch.tensor(0)
        for name in expected
        if name.endswith(FILLED) and name.replace(FILLED, "running_mean") in named
    }
    return counts | named


def _report(kind: Kind, size: str, path: Path, digest: str, named: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "kind": kind.name,
        "size": size,
        "source": path.name,
        "sha256": digest.strip().lower(),
        "tensors": len(named),
        "numbers": sum(tensor.numel() for tensor in named.values()),
    }


def _tokenizer(source: Path | str | None, vocabulary: int) -> Tokenizer:
    if source is None:
        words = _from_hub()
    else:
        path = Path(source)
        words = Tokenizer.load(path / "tokenizer.json" if path.is_dir() else path).cut_to()
    if words.end != vocabulary - 1:
        raise UserError(
            f"the tokenizer ends a sentence with {words.end}, this model with {vocabulary - 1}: pass CLIP's "
            "tokenizer.json with --tokenizer"
        )
    return words


def _from_hub() -> Tokenizer:
    try:
        return Tokenizer(AutoTokenizer.from_pretrained(CLIP_TOKENIZER).backend_tokenizer.to_str()).cut_to()
    except OSError as error:
        raise UserError(
            f"the tokenizer of {CLIP_TOKENIZER} is not on this machine and could not be fetched: connect to the "
            "network once, or pass its tokenizer.json with --tokenizer"
        ) from error
