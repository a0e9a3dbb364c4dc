"""Features of one split: encoder and head applied to every image, without augmentation, streamed to Arrow.

B batch, F features of the encoder, D dimensions of the head.
"""

import pickle
from pathlib import Path

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.data import Shards, eval_batches
from invp.errors import UserError
from invp.files import atomic_path, with_record
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.progress import Progress


def load_network(section: dict, checkpoint: Path) -> tuple[nn.Module, nn.Module]:
    """Encoder and head of a checkpoint, in evaluation mode on the CPU."""
    encoder = build_encoder(section["encoder"], section["augmentation"]["size"])
    head = build_head(section["head"], encoder.num_features)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["objective"]
        for name, module in (("encoder", encoder), ("head", head)):
            module.load_state_dict({key.removeprefix(f"{name}."): v for key, v in state.items() if key.startswith(f"{name}.")})
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{checkpoint} does not fit the experiment or is damaged: {str(error).splitlines()[0]}") from None
    return encoder.eval(), head.eval()


def _list(values: Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.float().cpu().numpy().ravel()), values.shape[1])


def _labels(values: Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.numpy().ravel()), values.shape[1])


def run(section: dict, seed: int, stage: int, checkpoint: Path, dataset: Path, out: Path, record: dict) -> None:
    """Writes the features table of the split whose manifest lies in the folder `dataset`, a batch at a time."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, head = (module.to(device) for module in load_network(section, checkpoint))
    shards, options = Shards(dataset), section["augmentation"]
    batches = eval_batches(shards, size=options["size"], batch_size=256, device=device, mean=options["mean"], std=options["std"])
    progress = Progress(f"features of {dataset.parent.name}-{dataset.name}", shards.num_samples)
    with torch.no_grad(), atomic_path(out) as temporary:
        writer = None
        for index, images in batches:
            feature = encoder(images)
            labels = shards.labels[index]
            several = {} if shards.multi_labels is None else {"labels": _labels(shards.multi_labels[index])}
            batch = pa.record_batch(
                {
                    "index": pa.array(index.numpy()),
                    "label": pa.array(labels.numpy().astype("int32"), mask=(labels < 0).numpy()),
                    **several,
                    "feature": _list(feature),
                    "embedding": _list(F.normalize(head(feature), dim=1)),
                }
            )
            if writer is None:
                writer = pa.ipc.new_file(temporary, with_record(batch.schema, record))
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=with_record(batch.schema, record)))
            progress.update(len(index))
        assert writer is not None, "a prepared split has at least one image"
        writer.close()
    progress.close()
