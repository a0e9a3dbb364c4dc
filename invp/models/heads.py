"""Projection heads: features BxF -> embeddings BxD, not normalised; and the predictors behind them."""

from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


def build_head(options: dict, num_features: int) -> nn.Module:
    """A linear head (F -> D), an MLP head (F -> hidden -> ... -> D), or none (D = F).

    Without more options the MLP is F -> F -> ReLU -> D without normalisation.
    """
    kind, dimensions = options["kind"], options["dimensions"]
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        head: nn.Sequential = nn.Sequential(nn.Linear(num_features, dimensions))
    elif kind == "mlp":
        # What was exported before there was a choice names none of these.
        widths = [num_features, *[options.get("hidden", 0) or num_features] * (options.get("layers", 2) - 1), dimensions]
        norm, activation = options.get("norm", "none") == "batch", options.get("activation", "relu")
        head = build_mlp(widths, norm, activation, last_norm=options.get("last_norm", False))
    else:
        raise ValueError(f"no head {kind!r}: sections.HEADS names more than this function builds")
    for module in head:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return head


def build_mlp(widths: list[int], batch_norm: bool, activation: str = "relu", last_norm: bool = False) -> nn.Sequential:
    """Linear layers from each width to the next, an activation between two; with `batch_norm` each hidden layer is normalised before it.

    `last_norm` normalises the output too, without weights of its own. A layer before a normalisation has no bias.
    """
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(zip(widths, widths[1:], strict=False), 2):
        last = number == len(widths)
        layers.append(nn.Linear(before, after, bias=not (last_norm if last else batch_norm)))
        if batch_norm and not last:
            layers.append(nn.BatchNorm1d(after))
        if not last:
            layers.append(ACTIVATIONS[activation]())
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def embedding_width(encoder: nn.Module, head: nn.Module) -> int:
    """D of a head's embedding of the encoder's features: the outputs of its last linear layer, or F where it has none."""
    widths = [module.out_features for module in head.modules() if isinstance(module, nn.Linear)]
    return widths[-1] if widths else encoder.num_features


def build_predictor(width: int, hidden: int, batch_norm: bool) -> nn.Module:
    """An MLP D -> `hidden` -> ReLU -> D behind a head, whose hidden layer may be batch-normalised; without hidden units it gives what it is
    given."""
    if not hidden:
        return nn.Identity()
    norm = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
    return nn.Sequential(nn.Linear(width, hidden), norm, nn.ReLU(), nn.Linear(hidden, width))
