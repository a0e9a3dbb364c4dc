"""The forward and the backward pass of a step, replayed on a GPU where an objective says that its steps are all alike. B batch."""

from torch import Tensor, nn
from torch.optim import Optimizer

from invp.core.replay import Replayed
from invp.training.distributed import Group


class Gradients:
    """What an objective returns of a batch, after which its parameters have their gradients.

    An objective's module may define `steady(config, epoch)`: what of the epoch the operations of its steps depend on, or None if they differ
    from step to step. Where it does, and there is one process with a GPU, steps are launched as a CUDA graph. `model` is the objective, or
    what shares its gradients with other processes.
    """

    def __init__(self, objective: nn.Module, model: nn.Module, optimizer: Optimizer, group: Group) -> None:
        self.objective, self.model, self.optimizer, self.group = objective, model, optimizer, group
        self.steady = getattr(objective, "steady", None)
        self.can_replay = group.world_size == 1 and group.device.type == "cuda"
        self.replayed: Replayed | None = None

    def __call__(self, epoch: int, index: Tensor, views: list[Tensor]) -> dict:
        """The objective's output for the images `index` (B) and their views; replayed, the next step's lies in its memory."""

        def step(index: Tensor, *views: Tensor) -> dict:
            output = self.model(list(views), index, epoch)
            self.optimizer.zero_grad(set_to_none=True)
            output["loss"].backward()
            return {**output, "loss": output["loss"].detach()}

        kind = self.steady(self.objective.config, epoch) if self.steady else None
        if kind is None or not self.can_replay or (self.replayed and self.replayed.refused):
            return step(index, *views)
        if self.replayed is None or self.kind != kind:
            self.replayed, self.kind = Replayed(step, self.group.device), kind
        return self.replayed(index, *views)
