"""What the objectives that reconstruct images share: the width of their code, and their decoder."""

from torch import nn

from invp.models.decoders import GROUPS, ConvDecoder, LinearDecoder
from invp.objectives._options import require

DECODERS = ("conv", "linear")


def code_width(encoder: nn.Module, head: nn.Module) -> int:
    """The dimensions of what the head gives of the encoder's features."""
    linear = [module.out_features for module in head.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else encoder.num_features


def build_decoder(config, encoder: nn.Module, head: nn.Module, kind: str = "conv") -> nn.Module:
    """The decoder from the head's output to images of the size that the encoder is trained on."""
    if kind == "linear":
        return LinearDecoder(code_width(encoder, head), encoder.image_size)
    require(config.decoder_width % GROUPS == 0, config, "decoder_width", f"a multiple of {GROUPS}")
    return ConvDecoder(code_width(encoder, head), encoder.image_size, config.decoder_width)
