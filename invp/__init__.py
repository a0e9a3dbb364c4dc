"""Invariance Propagation (Wang et al., NeurIPS 2020) as a Snakemake workflow."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`invp.load_encoder`, imported when it is asked for, so that `import invp` stays quick."""
    if name == "load_encoder":
        from invp.training.encoder import load_encoder

        return load_encoder
    raise AttributeError(f"module 'invp' has no attribute {name!r}")
