"""Projection heads: features BxF -> embeddings BxD, not normalised; and the predictors behind them."""

from torch import nn


def build_head(options: dict, num_features: int) -> nn.Module:
    """A linear head (F -> D), an MLP head (F -> F -> ReLU -> D, without batch normalisation), or none (D = F)."""
    kind, dimensions = options["kind"], options["dimensions"]
    if kind == "linear":
        head = nn.Sequential(nn.Linear(num_features, dimensions))
    elif kind == "mlp":
        head = nn.Sequential(nn.Linear(num_features, num_features), nn.ReLU(), nn.Linear(num_features, dimensions))
    elif kind == "none":
        return nn.Identity()
    else:
        raise ValueError(f"no head {kind!r}: sections.HEADS names more than this function builds")
    for module in head:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return head


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
