"""Features stream to Arrow: a batch is on disk before many more are read."""

import pyarrow as pa
import torch

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.files import read_table
from invp.steps import features

ENCODER = {"name": "resnet_small", "stem": "auto", "norm": "batch", "width": 8, "blocks": 1, "zero_init_residual": False}
HEAD = {"kind": "linear", "dimensions": 16}


def test_batches_are_written_as_they_come(digits, tmp_path, monkeypatch):
    encoder = build_encoder(ENCODER, 8)
    head = build_head(HEAD, encoder.num_features)
    state = {f"{n}.{k}": v for n, m in (("encoder", encoder), ("head", head)) for k, v in m.state_dict().items()}
    torch.save({"objective": state}, tmp_path / "c.pt")
    section = {"encoder": ENCODER, "head": HEAD, "augmentation": {"size": 8, "mean": [0.3] * 3, "std": [0.4] * 3}}
    out, batches, rows_on_disk = tmp_path / "out" / "f.arrow", features.eval_batches, []
    out.parent.mkdir()

    def small(shards, **options):
        for number, batch in enumerate(batches(shards, **{**options, "batch_size": 64})):
            if number:
                partial = next(path for path in out.parent.iterdir() if path != out)
                rows_on_disk.append((partial.stat().st_size, 64 * number))
            yield batch

    monkeypatch.setattr(features, "eval_batches", small)
    features.write_features(section, tmp_path / "c.pt", digits["train"], out, {})
    bytes_of_one = 4 * (encoder.num_features + 16)
    assert len(rows_on_disk) == 22
    for size, rows in rows_on_disk:
        assert size > (rows - 64) * bytes_of_one, "at most one batch waits"
    table = read_table(out)
    assert len(table) == 1437 and len(table["feature"].chunks) == 23
    norms = torch.tensor(table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 16).copy()).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(1437), atol=1e-5, rtol=0)
    assert isinstance(table, pa.Table)
