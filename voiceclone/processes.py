"""Several processes that train one model together, each on its own GPU: what they must share, and how they start."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState
from torch import nn


def launched() -> bool:
    """Whether this process is one of several that train together, which accelerate's launchers have said."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main(device: str) -> bool:
    """Whether this process is the one that listens, writes and reports: always, unless several were launched."""
    return PartialState(cpu=device == "cpu").is_main_process


def wait_for_main(device: str) -> None:
    """Wait until all processes are here, the main one too."""
    PartialState(cpu=device == "cpu").wait_for_everyone()


class _Sum(torch.autograd.Function):
    """Sum over all processes; each one's gradient is the sum of what all of them make of it."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        summed = gradient.contiguous().clone()
        torch.distributed.all_reduce(summed)
        return summed


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm whose mean and variance are those of all processes' frames, as if they were one batch.

    Torch's own SyncBatchNorm knows no CPU, where it could be tested.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, frames) -> the same."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        sums = _Sum.apply(torch.cat((values.sum((0, 2)), values.new_full((1,), values.shape[0] * values.shape[2]))))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = values - mean.unsqueeze(1)
        variance = _Sum.apply(centred.square().sum((0, 2))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normed = centred * torch.rsqrt(variance + self.eps).unsqueeze(1)
        return (normed * self.weight.unsqueeze(1) + self.bias.unsqueeze(1)).to(x.dtype)


def share_batch_norms(model: nn.Module) -> None:
    """Let a model's batch norms look at all processes; names and weights stay what they are."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm1d:
                shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared)
