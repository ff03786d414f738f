"""Per-sample gradients of one parameter, as a layer's rule gives them, and sums of their sizes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..precision import at_least_float32

NARROW = 64
"""Outputs or inputs of a layer below which MKL gave other bits for 1 and 2 threads (seen at 2 and 10)."""


class PerSample(ABC):
    """The gradients of one parameter for n samples, not yet computed."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Count the samples, n."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Count the bytes of memory it holds."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Count the numbers of the parameter."""

    @abstractmethod
    def block(self, start: int, stop: int) -> Tensor:
        """Return the gradients of the samples start..stop - 1: [stop - start, *], a new tensor.

        The numbers of a sample are in whatever order is cheapest, perhaps in half precision.
        """

    def ordered(self, blocks: Tensor) -> Tensor:
        """Put what has the numbers of `block` behind its first dimension into the shape of the parameter."""
        return blocks

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the gradients of the samples start..stop - 1: [stop - start, *shape], new and >= float32."""
        return self.ordered(at_least_float32(self.block(start, stop)))


@dataclass(frozen=True, eq=False)
class Given(PerSample):
    """Gradients that are small enough to hold: [n, *shape]."""

    values: Tensor

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    @property
    def size(self) -> int:
        return math.prod(self.values.shape[1:])

    def block(self, start: int, stop: int) -> Tensor:
        return self.values[start:stop].clone()


@dataclass(frozen=True, eq=False)
class Product(PerSample):
    """Matrix products: sample i has ``left[i] @ right[i].mT``, reshaped to the parameter.

    Args:
        left: [n, groups, outputs, positions], what came back.
        right: [n, groups, inputs, positions], what went in; of the same dtype.
        shape: of the parameter, groups * outputs * inputs numbers.
    """

    left: Tensor
    right: Tensor
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.left)

    @property
    def rank_one(self) -> bool:
        """Tell whether every sample's gradient is an outer product, its size thus a product of sizes."""
        return self.left.shape[1] == 1 and self.left.shape[3] == 1

    @property
    def nbytes(self) -> int:
        return self.left.nbytes + self.right.nbytes

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def block(self, start: int, stop: int) -> Tensor:
        product = torch.matmul(self.left[start:stop], self.right[start:stop].mT)
        return product.reshape(-1, *self.shape)


@dataclass(frozen=True, eq=False)
class Lookup(PerSample):
    """Rows of an embedding: position t of sample i adds ``values[i, t]`` to row ``indices[i, t]``."""

    indices: Tensor
    values: Tensor
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.indices.nbytes

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def block(self, start: int, stop: int) -> Tensor:
        indices, values = self.indices[start:stop], self.values[start:stop]
        result = values.new_zeros(len(indices), *self.shape)
        return result.scatter_add_(1, indices[:, :, None].expand_as(values), values)


def sums_of_sizes(
    contributions: Sequence[PerSample], weights: Tensor, *, squared: bool, budget: int
) -> Tensor:
    """Sum weights[k, i] * |gradient of sample i| (or its square) over i, for each k: [K, *shape].

    Args:
        contributions: one per use of the parameter; a sample's gradient is their sum.
        weights: [K, n], >= 0, at least float32; sums are of their dtype, also where gradients have less.
        squared: squares instead of absolute values.
        budget: numbers that may be held at once.
    """
    first = contributions[0]
    alone = len(contributions) == 1
    if alone and isinstance(first, Product) and first.rank_one:
        return _of_outer_products(first, weights, squared)
    total = weights.new_zeros(len(weights), first.size)
    step = max(1, budget // max(1, first.size))
    shape = torch.Size()
    for start in range(0, first.count, step):
        stop = min(start + step, first.count)
        block = first.block(start, stop) if alone else _added(contributions, start, stop)
        block, shape = block.to(weights.dtype), block.shape[1:]
        sizes = block.square_() if squared else block.abs_()
        total.addmm_(weights[:, start:stop], sizes.reshape(stop - start, first.size))
    total = total.reshape(len(weights), *shape)
    return first.ordered(total) if alone else total


def _added(contributions: Sequence[PerSample], start: int, stop: int) -> Tensor:
    total = contributions[0].rows(start, stop)
    for other in contributions[1:]:
        total += other.rows(start, stop)
    return total


def _of_outer_products(product: Product, weights: Tensor, squared: bool) -> Tensor:
    """Sum the sizes by one matrix product for all samples, as |a b'| = |a| |b|."""
    left, right = (side[:, 0, :, 0].to(weights.dtype) for side in (product.left, product.right))
    left, right = (left.square(), right.square()) if squared else (left.abs(), right.abs())
    wide = _product_dtype(left, right)
    sums = torch.stack([_matrix_product((left * w[:, None]).mT, right, wide) for w in weights])
    return sums.reshape(len(weights), *product.shape)


def _matrix_product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply two matrices in ``dtype``, and return the product in the dtype of the factors."""
    return (left.to(dtype) @ right.to(dtype)).to(left.dtype)


def _product_dtype(left: Tensor, right: Tensor) -> torch.dtype:
    """Return float64 for narrow products of a CPU, whose float32 rounding depends on the threads."""
    narrow = left.is_cpu and min(left.shape[1], right.shape[1]) < NARROW
    return torch.float64 if narrow else left.dtype
