"""Tell TensorBoard, MLflow or Weights & Biases of every finished cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

Row = dict[str, Any]


class CellLogger(Protocol):
    """Takes the row of `searches` of a finished cell."""

    def cell(self, row: Row) -> None:
        """Log it."""


def cell_logger(name: Literal["tensorboard", "mlflow", "wandb"] | None, results: Path) -> CellLogger | None:
    return None
