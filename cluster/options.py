"""Options that belong together: where a sweep runs, what is healed. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Device = Literal["auto", "cpu", "cuda"]


class Where(BaseModel):
    """Where a sweep runs.

    Attributes:
        store: Models and importances: a folder that all nodes see, or s3://..., gs://...; by default RESULTS.
        address: Join a Ray cluster: auto, or the address of its head. By default a local Ray on the loopback.
        workers: Most workers; by default one for each GPU, or else for each CPU.
        device: auto takes GPUs if there are any.
        per_gpu: Workers that share a GPU; by default those that fit, where earlier runs have measured it.
        data: Folder of the datasets; by default the variable THERIAC_DATA, else ./data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str | None = None
    address: str | None = None
    workers: int | None = Field(default=None, ge=1)
    device: Device = "auto"
    per_gpu: int | None = Field(default=None, ge=1)
    data: Path | None = None


class Subject(BaseModel):
    """A model to be healed, and the samples that show what of.

    Attributes:
        weights: The poisoned model: a safetensors file, or a torch.save checkpoint of a state dict.
        forget: The samples known to be poisoned, under the labels they were trained with: class folders
            (FORGET/LABEL/*.png) or Parquet image files.
        retain: The rest of the training set, in either form; it may hold poison not yet found.
        model: Architecture: resnet9, or any name timm knows.
        width: Width factor of our own architectures.
        num_classes: Logits of the model; by default the number of classes in RETAIN.
        device: auto, cpu, cuda, cuda:1, ...
        trust_pickle: Also read checkpoints that run code when loaded. Only for files whose author you trust.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Path
    forget: Path
    retain: Path
    model: str = "resnet9"
    width: float = 1.0
    num_classes: int | None = Field(default=None, ge=1)
    device: str = "auto"
    trust_pickle: bool = False


class Preprocessing(BaseModel):
    """How stored images become what the model was trained on.

    Attributes:
        image_size: Resize (shorter side) and centre-crop to this side; by default as stored.
        channels: 1 for grey, 3 for RGB.
        mean: Normalisation as in training: mean of images in [0, 1], one number or one a channel.
        std: Normalisation as in training: standard deviation, one number or one a channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int | None = Field(default=None, ge=2)
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @field_validator("channels")
    @classmethod
    def _grey_or_colour(cls, value: int) -> int:
        if value not in (1, 3):
            raise ValueError("images have 1 (grey) or 3 (RGB)")
        return value

    @field_validator("std")
    @classmethod
    def _above_zero(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if values and min(values) <= 0:
            raise ValueError("give numbers above 0")
        return values

    @model_validator(mode="after")
    def _one_a_channel(self) -> Preprocessing:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name} {values}: give one number, or {self.channels}")
        return self
