"""Projection heads: features BxF -> embeddings BxD, not normalised."""

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
