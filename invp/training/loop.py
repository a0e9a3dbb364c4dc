"""The training of one stage: from the parent stage's checkpoint (or a seeded start) to this stage's end epoch.

N images, B batch, D dimensions.
"""

import math
import resource
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from invp.data.augment import Augment
from invp.data.batches import epoch_order, eval_batches, train_batches
from invp.data.shards import Shards
from invp.models.encoders import synchronised
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json, sha256_of, write_json
from invp.plumbing.plugins import constants
from invp.plumbing.progress import Progress
from invp.plumbing.provenance import versions
from invp.plumbing.sections import Augmentation, area_of_views, view_kinds
from invp.training.checkpoint import load_checkpoint, save_checkpoint
from invp.training.collapse import refuse_collapse
from invp.training.distributed import Group, gather, on_any_process
from invp.training.gradients import Gradients
from invp.training.objective import build_objective
from invp.training.optim import build_optimizer, set_schedule
from invp.training.resume import state_to_resume
from invp.training.stop import Left, StopRequest, leave_if_asked

LOOK_EVERY = 10  # steps between looks at what a GPU or other processes would have to be waited for


class Stage:
    """One stage of one run: its state, where it is saved, and the loop over epochs and steps."""

    def __init__(self, section: dict, dataset: Path, parent: Path | None, group: Group, code: str, workers: int = 1):
        self.section, self.group, self.code, self.workers = section, group, code, workers
        self.training = section["training"]
        self.shards = Shards(dataset)
        self.batch_size = self.training["batch_size"]
        if self.batch_size % group.world_size:
            raise UserError(f"training.batch_size ({self.batch_size}) must be a multiple of the processes ({group.world_size})")
        if self.shards.num_samples < self.batch_size and section["stage"]:
            raise UserError(f"training.batch_size ({self.batch_size}) is more than the {self.shards.num_samples} images")
        self.steps = self.shards.num_samples // self.batch_size
        self.objective = build_objective(section, self.shards.num_samples).to(group.device)
        if group.device.type == "cuda" and group.world_size > 1:
            self.objective = synchronised(self.objective)
        if self.training["channels_last"]:
            self.objective.to(memory_format=torch.channels_last)  # a momentum encoder too
        self.optimizer = build_optimizer(self.objective, self.training)
        self.model = self.objective
        if group.world_size > 1:
            self.model = DistributedDataParallel(
                self.objective,
                device_ids=[group.device] if group.device.type == "cuda" else None,
                broadcast_buffers=False,
            )
        kinds = view_kinds(section) or [section["augmentation"]] * self.objective.views
        if len(kinds) != self.objective.views:
            raise UserError(f"views has {len(kinds)}, and the objective takes {self.objective.views}")
        self.augmentations = [Augment(instance(Augmentation, kind)) for kind in kinds]
        self.views = area_of_views(section, self.objective.views)
        self.fingerprint = canonical_json([section, code, sha256_of(parent) if parent else None])
        self.epoch, self.step, self.sums, self.rows = 0, 0, {}, []
        self.before: list[dict] = []  # the row of the epoch before this stage
        self.gradients = Gradients(self.objective, self.model, self.optimizer, group)
        self.told_progress = constants("objectives", section["objective"]["name"]).get("PROGRESS", False)
        self.look_every = LOOK_EVERY if group.world_size > 1 or group.device.type == "cuda" else 1
        self.unchecked: list[tuple[int, Tensor]] = []  # steps and their losses since the last look
        if parent:
            self._restore(load_checkpoint(parent))
            self.before, self.rows = self.rows[-1:], []

    def _restore(self, state: dict) -> None:
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.sums, self.rows = state["sums"], state["rows"]
        for name, value in self.sums.items():
            if torch.is_tensor(value):  # sums lie on the device, where other processes' are added
                self.sums[name] = value.to(self.group.device)

    def state(self) -> dict:
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "rows": self.rows,
            "section": canonical_json(self.section),
            "dataset": {"classes": self.shards.classes, "format": self.shards.format},
            "code": self.code,
            "versions": versions(),
            "fingerprint": self.fingerprint,
        }

    def resume(self, partial: Path) -> None:
        """Takes up a partial checkpoint of the same section, code and parent; says why if it does not."""
        state = state_to_resume(partial, self.fingerprint, self.group)
        if state is not None:
            self._restore(state)
            if self.group.first:
                print(f"continuing in epoch {self.epoch + 1} after step {self.step} of {self.steps}", file=sys.stderr, flush=True)

    def save(self, path: Path) -> None:
        """Writes the state atomically from the first process; every process must call it."""
        state = self.state()
        if self.group.first:
            save_checkpoint(state, path)

    @torch.no_grad()
    def embed(self, function) -> Tensor:
        """A function of image batches applied to every training image without augmentation, in index order: N x ?."""
        training = self.objective.training
        self.objective.eval()
        augmentation = self.section["augmentation"]
        batches = eval_batches(
            self.shards,
            size=augmentation["size"],
            batch_size=512,
            device=self.group.device,
            mean=augmentation["mean"],
            std=augmentation["std"],
            workers=self.workers,
        )
        parts = []
        try:
            for number, (_, images) in enumerate(batches):
                if number % self.look_every == 0:
                    leave_if_asked()
                parts.append(function(images))
        finally:
            self.objective.train(training)
        return torch.cat(parts)

    def run(self, end: int, partial: Path, save_minutes: float, stop: StopRequest) -> bool:
        """Trains until epoch `end`; False if it saved to `partial` and left before."""
        seen = (self.epoch * self.steps + self.step) * self.batch_size
        progress = Progress(f"epochs to {end}", end * self.steps * self.batch_size, done=seen) if self.group.first else None
        began = saved = time.monotonic()
        self.objective.train()
        while self.epoch < end:
            started = time.monotonic()
            if self.step == 0:
                self.sums = {"seconds": 0.0}
                try:
                    self.objective.begin_epoch(self.epoch + 1, self.embed)
                except Left:  # the epoch begins anew after the resume
                    self._leave(partial, end, seen, began)
                    return False
            for batch in self._batches():
                self._train_step(*batch)
                if progress:
                    progress.update(self.batch_size, lambda: f"epoch {self.epoch + 1}  loss {self._mean_loss():.4f}")
                if self.step % self.look_every and self.step < self.steps:
                    continue
                self._check_finite()
                overdue = time.monotonic() - saved > 60 * save_minutes
                leaving, saving = on_any_process(bool(stop), bool(stop) or overdue)
                if saving:
                    self.sums["seconds"] += time.monotonic() - started
                    started = saved = time.monotonic()
                    if not (self.step == self.steps and self.epoch + 1 == end):
                        self._leave(partial, end, seen, began)
                        if leaving:
                            return False
            self._end_epoch(time.monotonic() - started)
        if progress:
            progress.close()
        return True

    def _leave(self, partial: Path, end: int, seen: int, began: float) -> None:
        """Saves, and says beside it how long the rest will take."""
        self.save(partial)
        if self.group.first:
            write_json(partial.with_name("left.json"), {"minutes": self._minutes_left(end, seen, began)})

    def _minutes_left(self, end: int, seen: int, began: float) -> float:
        """What the rest of the stage takes at the pace since `began`, when `seen` images were done: for the next job's limit."""
        now = (self.epoch * self.steps + self.step) * self.batch_size
        left = end * self.steps * self.batch_size - now
        return round(left * (time.monotonic() - began) / max(1, now - seen) / 60, 3)

    def _batches(self):
        seed, epoch = self.section["seed"], self.epoch + 1
        return train_batches(
            self.shards,
            order=epoch_order(self.shards.num_samples, seed, epoch),
            batch_size=self.batch_size,
            start_step=self.step,
            rank=self.group.rank,
            world_size=self.group.world_size,
            device=self.group.device,
            augmentations=self.augmentations,
            seed=seed,
            epoch=epoch,
            workers=self.workers,
        )

    def _train_step(self, step: int, index: Tensor, views: list[Tensor]) -> None:
        if self.training["channels_last"]:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        index = index.to(self.group.device, non_blocking=True)
        position = self.epoch + step / self.steps
        if self.told_progress:
            self.objective.progress = position / self.training["epochs"]
        # Differs under official_compat: the authors' rates come an epoch earlier (their epoch counts from 1 where a schedule starts at 0).
        set_schedule(self.optimizer, self.training, position, bool(self.section["objective"].get("official_compat")))
        output = self.gradients(self.epoch + 1, index, views)
        if self.training["clip"]:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.training["clip"])
        self.unchecked.append((step, output["loss"].clone()))  # replayed, the next step's lies in its memory
        self.optimizer.step()
        memory = {name: gather(rows.detach()) for name, rows in output["memory"].items()}
        index = gather(index)
        self.objective.end_step(index, memory)
        with torch.no_grad():
            values = {"loss": output["loss"], **output["metrics"]}
            if "feature" in memory:
                values["feature_agreement"] = memory["feature"].float().mean(0).square().sum()
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + (value.double() if torch.is_tensor(value) else value)
        self.step = step + 1

    def _check_finite(self) -> None:
        """Looks at the losses since the last look, at once, so that a GPU is not waited for in every step."""
        steps = [step for step, _ in self.unchecked]
        losses = torch.stack([loss for _, loss in self.unchecked]).tolist() if steps else []
        self.unchecked.clear()
        for step, loss in zip(steps, losses, strict=True):
            if not math.isfinite(loss):
                order = epoch_order(self.shards.num_samples, self.section["seed"], self.epoch + 1)
                local = self.batch_size // self.group.world_size
                index = order[step * self.batch_size + self.group.rank * local :][:local].tolist()
                raise UserError(
                    f"the loss is {loss} in epoch {self.epoch + 1}, step {step + 1}; the batch's indices are {index}. "
                    "Lower training.learning_rate, or raise objective.temperature"
                )

    def _mean_loss(self) -> float:
        return float(self.sums["loss"]) / self.step

    def _peak_memory_mb(self) -> float:
        """The most memory so far: on the GPU, or else of this process (MiB)."""
        if self.group.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self.group.device) / 2**20, 1)
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)

    def _end_epoch(self, seconds: float) -> None:
        self.epoch += 1
        seconds += self.sums.pop("seconds")
        row = {
            "epoch": self.epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "views": round(self.epoch * self.steps * self.batch_size * self.views),
        }
        for name in sorted(self.sums):
            own = torch.as_tensor(self.sums[name], dtype=torch.float64, device=self.group.device)
            row[name] = self.group.mean(own / self.steps).item()
        row["seconds"] = round(seconds, 3)
        row["memory_mb"] = self._peak_memory_mb()
        row["images_per_second"] = round(self.steps * self.batch_size / max(seconds, 1e-9), 1)
        self.rows.append(row)
        self.step, self.sums = 0, {}
        refuse_collapse([*self.before, *self.rows], self.section)
