"""The `Importance` of a model's parameters: sums that add up, with their file format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...datasets.file_checks import kind_refused
from ...errors import BadInput
from ..kinds import Granularity, Kind, Precision
from ..precision import PRECISIONS

FORMAT = "theriac-importance-1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Importance:
    """Importances of all named parameters, as a sum and the number of its terms.

    Args:
        total: name -> sum of sensitivities, same shape as the parameter, all >= 0.
        count: samples (granularity "sample") or batches ("batch") in the sum, at least 1.
        kind: "fim", "lf" or "xlf".
        granularity: "sample" or "batch".
        exponent: the power w of an "xlf" whose w is not 1; else None.
        precision: in which forward and backward passes ran: "float32" (or more), "bfloat16" or "float16".
        model: `identity.model_identity` of the model; None if not known.
        data: `identity.DataIdentity` of the samples (or batches), in [0, 2^64); None if not known.
        reduced_to: to how many samples at once the work was brought down because memory ran out; the last
            digits may differ from those of a run that had enough. None: it did not run out.

    ``a + b`` is the importance of both sets together, ``a * k`` that of a repeated k times. ``a - b`` is that
    of a without its part b, for granularity "sample" only: a mean over batches cannot be taken apart. Its
    absolute error is the rounding of both sums, about 1e-6 of them at most, so it is good where b is the
    smaller part. Results are on the device of a.

    Raises:
        BadInput: a count below 1; from + and -: importances of different sorts or models.

    Example:
        >>> import torch
        >>> from theriac.unlearning.importance import Importance
        >>> one = Importance(total={"w": torch.tensor([2.0])}, count=4, kind="lf", granularity="sample")
        >>> (one + one).count, one.mean()["w"].item()
        (8, 0.5)
    """

    total: Mapping[str, Tensor]
    count: int
    kind: Kind
    granularity: Granularity
    exponent: float | None = None
    precision: Precision = "float32"
    model: str | None = None
    data: int | None = None
    reduced_to: int | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadInput(f"importances of {self.count} terms; give at least one")

    def mean(self) -> dict[str, Tensor]:
        """Return name -> importance averaged over the terms of the sum, float32."""
        return {name: (total / self.count).float() for name, total in self.total.items()}

    def __add__(self, other: Importance) -> Importance:
        self._check_same_sort(other)
        total = {name: value + other.total[name].to(value) for name, value in self.total.items()}
        data = _combined(self.data, other.data, 1)
        return self._with(total, self.count + other.count, data, self._smaller(other))

    def __mul__(self, times: int) -> Importance:
        total = {name: value * times for name, value in self.total.items()}
        return self._with(total, self.count * times, _combined(0, self.data, times), self.reduced_to)

    def __sub__(self, other: Importance) -> Importance:
        self._check_same_sort(other)
        if self.granularity != "sample":
            raise BadInput(
                "importances of granularity 'batch' cannot be subtracted; compute them on the rest"
            )
        if other.count >= self.count:
            raise BadInput(
                f"{other.count} samples cannot be taken from {self.count} and leave any; give importances of "
                f"fewer"
            )
        total = {
            name: _difference(name, value, other.total[name].to(value)) for name, value in self.total.items()
        }
        data = _combined(self.data, other.data, -1)
        return self._with(total, self.count - other.count, data, self._smaller(other))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; `load` reads it back bit for bit."""
        metadata = {
            "format": FORMAT,
            "count": str(self.count),
            "kind": self.kind,
            "granularity": self.granularity,
            "precision": self.precision,
            **({} if self.exponent is None else {"exponent": repr(self.exponent)}),
            **({} if self.model is None else {"model": self.model}),
            **({} if self.data is None else {"data": str(self.data)}),
            **({} if self.reduced_to is None else {"reduced_to": str(self.reduced_to)}),
        }
        save_file({name: t.contiguous() for name, t in self.total.items()}, path, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Importance:
        """Read a file of `save`.

        Args:
            path: of the file.
            device: on which the sums are wanted.

        Raises:
            BadInput: no such file, not readable, or not a file of importances.
        """
        reason = kind_refused(os.stat(path).st_mode) if os.path.exists(path) else None
        if reason is not None:
            raise BadInput(f"importances {path}: cannot be read ({reason}); compute them again")
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                metadata = file.metadata() or {}
                total = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError) as error:
            raise BadInput(f"importances {path}: cannot be read ({error}); compute them again") from error
        return cls(total=total, **_identity(metadata, path))

    def _with(
        self, total: dict[str, Tensor], count: int, data: int | None, reduced_to: int | None
    ) -> Importance:
        return replace(self, total=total, count=count, data=data, reduced_to=reduced_to)

    def _smaller(self, other: Importance) -> int | None:
        """Return the smaller of both `reduced_to`, of those there are."""
        return min((size for size in (self.reduced_to, other.reduced_to) if size is not None), default=None)

    def _check_same_sort(self, other: Importance) -> None:
        mine, its = ((i.kind, i.granularity, i.exponent, i.precision) for i in (self, other))
        if mine != its:
            raise BadInput(
                f"importances {mine} and {its} are different quantities; they cannot be combined: give like "
                f"ones"
            )
        if None not in (self.model, other.model) and self.model != other.model:
            raise BadInput(
                f"importances of different models ({self.model}, {other.model}) cannot be combined; compute "
                f"both of one model"
            )
        if self.total.keys() != other.total.keys():
            odd = sorted(self.total.keys() ^ other.total.keys())
            raise BadInput(
                f"importances of different models: parameter {odd[0]!r} is in only one of them; compute both "
                f"of one model"
            )
        for name, value in self.total.items():
            if value.shape != other.total[name].shape:
                raise BadInput(
                    f"importances of different models: parameter {name!r} has shape {tuple(value.shape)} in "
                    f"one and {tuple(other.total[name].shape)} in the other; compute both of one model"
                )


def _combined(mine: int | None, its: int | None, sign: int) -> int | None:
    return None if mine is None or its is None else (mine + sign * its) % (1 << 64)


def _difference(name: str, whole: Tensor, part: Tensor) -> Tensor:
    """Return whole - part, which is >= 0 but for rounding.

    Raises:
        BadInput: it is far below 0, so ``part`` is no part of ``whole``.
    """
    difference = whole - part
    if (difference < -1e-3 * part).any():
        raise BadInput(
            f"importances that are subtracted must be of a part of the samples, but those of {name!r} are "
            f"larger than the whole; subtract them from those of a set that contains their samples"
        )
    return difference.clamp(min=0)


def _identity(metadata: Mapping[str, str], path: str | Path) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise BadInput(f"{path} is not a file of importances ({FORMAT}); give one that Importance.save wrote")
    exponent, data, reduced = (metadata.get(name) for name in ("exponent", "data", "reduced_to"))
    precision = metadata.get("precision", "float32")  # files of before there were others
    try:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r}")
        return {
            "count": int(metadata["count"]),
            "kind": metadata["kind"],
            "granularity": metadata["granularity"],
            "exponent": None if exponent is None else float(exponent),
            "precision": precision,
            "model": metadata.get("model"),
            "data": None if data is None else int(data),
            "reduced_to": None if reduced is None else int(reduced),
        }
    except (KeyError, ValueError) as error:
        raise BadInput(f"importances {path}: damaged header ({error!r}); compute them again") from error
