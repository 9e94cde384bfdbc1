"""The sizes a CRIS comes in: the published geometry, and two small ones that start from random weights."""

from dataclasses import dataclass

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class CrisSize:
    """A geometry of CRIS; the defaults are those of its paper (arXiv 2111.15174) on CLIP RN50.

    Attributes:
        backbone: where weights come from by default; the small sizes are drawn at random.
        image_size: side of the square input in pixels, a multiple of 32.
        layers: blocks in each of the four stages of the image encoder.
        width: channels behind its stem; the stages have 4, 8, 16 and 32 times as many.
        table: side of the position table of its attention pool.
        embed: width of the space that images and sentences share.
        vocabulary: words that have an embedding.
        text_width: width of the text transformer, and of the decoder.
        text_heads: attention heads of the text transformer.
        text_layers: blocks of the text transformer.
        neck: channels of the neck at its fine, middle and coarse map; the middle one equals `text_width`.
        decoder_layers: layers of the decoder.
        decoder_heads: attention heads of the decoder.
        feed_forward: hidden width of its feed-forward parts.
        dropout: dropout of the decoder while it trains.
        mean: what pixels of 0 to 1 are normalised by, each channel.
        std: see `mean`.
    """

    backbone: str
    image_size: int = 416
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64
    table: int = 7
    embed: int = 1024
    vocabulary: int = 49408
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    neck: tuple[int, int, int] = (256, 512, 1024)
    decoder_layers: int = 3
    decoder_heads: int = 8
    feed_forward: int = 2048
    dropout: float = 0.2
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    @property
    def heads(self) -> int:
        """Heads of the attention pool, each of 64 channels."""
        return self.width * 32 // 64


CRIS_SIZES = {
    "tiny": CrisSize(
        "vlseg/cris-tiny-random",
        image_size=192,
        layers=(1, 1, 1, 1),
        width=16,
        embed=256,
        vocabulary=1024,
        text_width=128,
        text_heads=4,
        text_layers=4,
        neck=(64, 128, 256),
        decoder_layers=2,
        decoder_heads=4,
        feed_forward=256,
    ),
    "base": CrisSize("DerrickWang005/CRIS.pytorch"),
    "nano": CrisSize(
        "vlseg/cris-nano-random",
        image_size=64,
        layers=(1, 1, 1, 1),
        width=8,
        table=3,
        embed=64,
        vocabulary=1024,
        text_width=32,
        text_heads=2,
        text_layers=4,
        neck=(16, 32, 64),
        decoder_layers=2,
        decoder_heads=2,
        feed_forward=64,
    ),
}

PUBLIC_CRIS_SIZES = ("tiny", "base")
