"""The decoder of objectives that reconstruct images."""

from torch import nn

from invp.models.decoders import GROUPS, ConvDecoder, LinearDecoder
from invp.models.heads import embedding_width
from invp.objectives._options import require

DECODERS = ("conv", "linear")


def build_decoder(config, encoder: nn.Module, head: nn.Module, kind: str = "conv") -> nn.Module:
    """The decoder from the head's output to images of the size that the encoder is trained on."""
    if kind == "linear":
        return LinearDecoder(embedding_width(encoder, head), encoder.image_size)
    require(config.decoder_width % GROUPS == 0, config, "decoder_width", f"a multiple of {GROUPS}")
    return ConvDecoder(embedding_width(encoder, head), encoder.image_size, config.decoder_width)
