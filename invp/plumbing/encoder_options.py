"""The options of the section `encoder`, and which sizes of images an encoder takes."""

from dataclasses import dataclass

from invp.plumbing.errors import UserError
from invp.plumbing.options import option, refuse_unused

RESNETS = ("resnet_small", "resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
VITS = {"vit_tiny": 3, "vit_small": 6, "vit_base": 12}  # and their heads, among which the numbers of a token are divided
ENCODERS = (*RESNETS, *VITS, "pixels")
STEMS = ("auto", "cifar", "stride2", "imagenet")
FULL_RESOLUTION = 64  # pixels of a side up to which resnet_small has the stem without a stride, unless the experiment says so
VIT_OPTIONS = ("patch", "token_width", "depth", "pool", "positions", "registers", "drop_path", "freeze_patches")
# Which encoders have an option: for another it would be ignored, so it is refused.
ENCODERS_WITH = {
    "stem": RESNETS,
    "norm": RESNETS,
    "width": ("resnet_small",),
    "blocks": ("resnet_small",),
    "zero_init_residual": RESNETS,
    "input": (*RESNETS, *VITS),
    **dict.fromkeys(VIT_OPTIONS, tuple(VITS)),
}
INPUTS = ("rgb", "l", "l+ab")


@dataclass
class Encoder:
    """The network whose features are learned."""

    name: str = option(
        help="a ResNet of torchvision, resnet_small for small images, a vision transformer of timm, or the raw pixels",
        choices=ENCODERS,
    )
    stem: str = option(
        "auto",
        "imagenet: 7 x 7 of stride 2 and max-pool; cifar: 3 x 3 and no max-pool; stride2: the same with stride 2, a quarter of the work; "
        f"auto: cifar for resnet_small, which is for images of up to {FULL_RESOLUTION} px then, imagenet for the others",
        choices=STEMS,
    )
    norm: str = option("batch", "normalisation; group: 8 groups", choices=("batch", "group"))
    width: int = option(16, "channels of resnet_small's first stage", least=1)
    blocks: int = option(1, "blocks of each of resnet_small's three stages", least=1)
    zero_init_residual: bool = option(False, "each residual branch begins at zero")
    input: str = option(
        "rgb",
        "what the network sees of an image, in training and in every evaluation: its colours; l: its lightness in CIE Lab alone; l+ab: the "
        "lightness in one network and the colours in another, whose features stand side by side",
        choices=INPUTS,
    )
    width_share: float = option(
        0.5, "of input l+ab: the channels of each of the two networks, as a share of the encoder's", above=0
    )
    patch: int = option(16, "pixels of a side of a transformer's patches, which divides that of the images", least=1)
    token_width: int = option(0, "numbers of a transformer's token; 0: 192, 384 or 768, as its name says", least=0)
    depth: int = option(0, "blocks of a transformer; 0: 12", least=0)
    pool: str = option("token", "a transformer's features: its class token, or the mean of its patches", choices=("token", "mean"))
    positions: str = option(
        "learned", "of a transformer's patches; sincos: fixed sines and cosines of row and column", choices=("learned", "sincos")
    )
    registers: int = option(0, "more tokens of a transformer that are no patch", least=0)
    drop_path: float = option(
        0.0,
        "in training, how often a transformer's last block leaves out one of its branches; of earlier ones less",
        least=0,
        below=1,
    )
    freeze_patches: bool = option(False, "a transformer's projection of patches stays as random as it began, as MoCo v3's")

    def __post_init__(self) -> None:
        refuse_unused(self, "name", ENCODERS_WITH)
        if self.input != "l+ab" and self.width_share != 0.5:
            raise UserError(f"width_share is {self.width_share}, which input {self.input} has no use for; valid with: l+ab")
        channels = self.width if self.name == "resnet_small" else 64
        if self.input == "l+ab":
            channels *= self.width_share
            if channels < 1 or channels % 1:
                raise UserError(f"width_share is {self.width_share}; valid: a share that leaves whole channels, not {channels:g}")
        heads, sines = VITS.get(self.name, 1), self.positions == "sincos"
        if self.token_width % heads or (sines and self.token_width % 4):
            valid = f"a multiple of {self.name}'s {heads} heads{', and of 4 with positions: sincos' if sines else ''}"
            raise UserError(f"token_width is {self.token_width}; valid: {valid}")
        if self.name in VITS and self.input == "l+ab":
            raise UserError(f"input is 'l+ab', which {self.name} has no use for; valid with: {', '.join(RESNETS)}")
        if self.norm == "group" and channels % 8:
            key = "width" if self.input != "l+ab" else "width_share"
            raise UserError(f"{key} is {getattr(self, key)}; valid with norm: group: a multiple of 8 channels, not {channels:g}")


def encoder_section(options: dict) -> dict:
    """An encoder's checked options without those of transformers, where it is none: they came later, and make no result of others stale."""
    return {key: value for key, value in options.items() if options["name"] in VITS or key not in VIT_OPTIONS}


def check_encoder(experiment: dict) -> None:
    """UserError for a resnet_small that would compute large images at their full resolution without being asked to, and for a transformer
    whose patches do not divide the images, or one of the kinds of view."""
    encoder, size = experiment["encoder"], experiment["augmentation"]["size"]
    if encoder["name"] == "resnet_small" and encoder["stem"] == "auto" and size > FULL_RESOLUTION:
        raise UserError(
            "encoder.stem is 'auto', with which resnet_small's first stage computes at full resolution, and "
            f"augmentation.size is {size}; valid above {FULL_RESOLUTION} px: imagenet, stride2, or cifar for the full resolution all the same"
        )
    for size in sorted({kind["size"] for kind in (experiment["augmentation"], *experiment["views"])}):
        if encoder["name"] in VITS and size % encoder["patch"]:
            raise UserError(f"encoder.patch is {encoder['patch']}; valid: what divides the side of the images, {size}")
