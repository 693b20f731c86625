"""The processes of a training, and the data they exchange: pixel counts, gradients, and losses for the log."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from numpy.typing import NDArray

from components.training.batches.data import Share
from components.training.branch import Branch


class Group:
    """One process, or the processes that paddle.distributed.launch started: gloo on CPU, NCCL on GPU."""

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
        """Return the mean of a scalar over processes, without a gradient."""
        if self.alone:
            return value
        reduced = value.detach().clone()
        paddle.distributed.all_reduce(reduced)
        return reduced / self.processes

    def average_gradients(self, branch: Branch) -> None:
        """Average the gradients over processes.

        With losses divided by mean pixel counts (`mean`), the result is the gradient of the whole batch.
        """
        gradients = [parameter.grad for parameter in branch.trained.values() if parameter.grad is not None]
        flat = paddle.concat([gradient.flatten() for gradient in gradients])
        paddle.distributed.all_reduce(flat)
        flat /= self.processes
        start = 0
        for gradient in gradients:
            end = start + gradient.size
            gradient.set_value(flat[start:end].reshape(gradient.shape))
            start = end

    def means(self, numbers: Sequence[float]) -> list[float]:
        """Return the mean of each number over processes, equal in every process; for logs, not for gradients."""
        if self.alone:
            return list(numbers)
        reduced = paddle.to_tensor(np.asarray(numbers, dtype=np.float64))
        paddle.distributed.all_reduce(reduced)
        return [float(number) / self.processes for number in reduced.numpy()]

    def totals(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum of the counts over processes, equal in every process; exact up to 2 ** 53."""
        if self.alone:
            return counts
        means = np.array(self.means(counts.ravel().tolist())) * self.processes
        found: NDArray[np.int64] = np.rint(means).astype(np.int64)
        return found.reshape(counts.shape)

    def gather(self, arrays: Mapping[str, NDArray[np.float32]]) -> list[dict[str, NDArray[np.float32]]]:
        """Return every process's arrays, by rank; names, order and shapes must match in all processes."""
        if self.alone or not arrays:
            return [dict(arrays)] * self.processes
        flat = paddle.to_tensor(np.concatenate([array.ravel() for array in arrays.values()]))
        parts: list[paddle.Tensor] = []
        paddle.distributed.all_gather(parts, flat)
        ends = np.cumsum([array.size for array in arrays.values()])[:-1]
        return [
            {
                name: piece.reshape(array.shape)
                for (name, array), piece in zip(arrays.items(), np.split(part.numpy(), ends), strict=True)
            }
            for part in parts
        ]
