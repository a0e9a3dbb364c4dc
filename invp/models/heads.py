"""Projection heads: features BxF -> embeddings BxD, not normalised."""

from torch import nn

from invp.plumbing.errors import UserError


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
        raise UserError(f"head.kind is {kind!r}; valid: linear, mlp, none")
    for module in head:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return head
