"""The processes that train together, and what they exchange: counts of pixels, and gradients."""

import os
from collections.abc import Iterable

import paddle

from components.training.branch import Branch
from components.training.data import Share


class Group:
    """One process, or those that paddle.distributed.launch started: gloo on CPU, NCCL on GPU."""

    def __init__(self) -> None:
        self.processes = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        if self.processes > 1:
            paddle.distributed.init_parallel_env()

    @property
    def alone(self) -> bool:
        return self.processes == 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> Share:
        return Share(self.rank, self.processes)

    def mean(self, value: paddle.Tensor) -> paddle.Tensor:
        """The mean over processes of a number that needs no gradient."""
        if self.alone:
            return value
        reduced = value.detach().clone()
        paddle.distributed.all_reduce(reduced)
        return reduced / self.processes

    def average_gradients(self, branch: Branch) -> None:
        """Every process gets the mean gradient: with losses divided by `mean` counts, that of the whole batch."""
        gradients = [parameter.grad for parameter in branch.trained.values() if parameter.grad is not None]
        flat = paddle.concat([gradient.flatten() for gradient in gradients])
        paddle.distributed.all_reduce(flat)
        flat /= self.processes
        start = 0
        for gradient in gradients:
            end = start + gradient.size
            gradient.set_value(flat[start:end].reshape(gradient.shape))
            start = end

    def average_statistics(self, branches: Iterable[Branch]) -> None:
        """Running statistics differ between processes, which see different images: make them the mean."""
        if self.alone:
            return
        for branch in branches:
            for name, tensor in branch.network.state_dict().items():
                if name.endswith(("._mean", "._variance")):
                    tensor.set_value(self.mean(tensor))

    def any(self, here: bool) -> bool:
        """Whether it is so in any process; every process gets the same answer."""
        if self.alone:
            return here
        return float(self.mean(paddle.to_tensor(float(here)))) > 0
