"""Triggers made of a picture: from a file, or drawn where a trigger has no file."""

from __future__ import annotations

import os
from typing import ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor

from ...errors import BadInput
from ..seeding import seeded_generator
from .base import Overlay, Seed, Shape
from .perturbations import low_frequencies
from .picture_files import Picture, absolute, fitted, read_picture, seal

SHA256 = r"^[0-9a-f]{64}$"


class Pictured(Overlay):
    """A trigger with a picture file.

    Attributes:
        file: path of the picture: an image, or an array (.npy) as `picture_files.read_picture` takes it; it
            is made absolute. The picture is resized to the images.
        sha256: of the file's content, filled in where it is left out: what is computed with another content
            has another key.
    """

    ONLY_DRAWN: ClassVar[tuple[str, ...]] = ()
    """Settings of the picture that is drawn where there is no file."""

    file: str | None = None
    sha256: str | None = Field(default=None, validate_default=True, pattern=SHA256)

    @field_validator("file")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        return None if value is None else absolute(value)

    @field_validator("sha256")
    @classmethod
    def _sealed(cls, value: str | None, info: ValidationInfo) -> str | None:
        return _seal(info.data.get("file"), value, "sha256", "file")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Pictured:
        given = [name for name in self.ONLY_DRAWN if getattr(self, name) != self._default(name)]
        if self.file is not None and given:
            raise BadInput(
                f"trigger {self.name}: {given[0]} has no effect with a file; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _usable(self) -> Pictured:
        """Refuse pictures that do not suit before any work, unless they are not here, see `seal`."""
        files = self._files()
        if files and all(os.path.exists(file) for file in files):
            self.layers((3, 8, 8))
        return self

    def _files(self) -> list[str]:
        return [] if self.file is None else [self.file]

    @classmethod
    def _default(cls, name: str) -> object:
        return cls.model_fields[name].default

    def picture(self, channels: int) -> Picture:
        """Return the picture in the file, for images of 1 or 3 channels."""
        if self.file is None or self.sha256 is None:
            raise BadInput(f"trigger {self.name} has no file; give one")
        return read_picture(self.file, self.sha256, channels)

    def values(self, shape: Shape) -> Tensor:
        """Return the picture in the file, in [0, 1] and fitted to the images."""
        return fitted(_positive(self.picture(shape[0]), self.file).values, shape)


class Blend(Pictured):
    """The image mixed with a picture: (1 - alpha) * image + alpha * picture (Chen et al., 2017).

    Without a file the picture is noise, every value drawn uniformly from [0, 1]: their "random pattern".

    Attributes:
        file: the picture; I-BAU takes a Hello Kitty.
        sha256: of its content.
        alpha: weight of the picture.
        seed: of the noise.
    """

    ONLY_DRAWN: ClassVar[tuple[str, ...]] = ("seed",)

    name: Literal["blend"] = "blend"
    alpha: float = Field(default=0.2, gt=0, le=1)
    seed: Seed = 0

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        if self.file is None:
            picture = torch.rand(shape, generator=seeded_generator(self.seed, "blend"))
        else:
            picture = self.values(shape)
        return torch.full((1, 1, 1), 1 - self.alpha), self.alpha * picture


class Additive(Pictured):
    """A picture added to the image; the sum is clipped to [0, 1].

    I-BAU's optimised patterns (l0 inv, l2 inv, Smooth) come as such pictures. An array (.npy) can also hold
    negative values.

    Attributes:
        file: the picture.
        sha256: of its content.
        scale: what the picture is multiplied with first.
    """

    name: Literal["additive"] = "additive"
    file: str
    scale: float = Field(default=1.0, ge=-100, le=100)

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        picture = fitted(self.picture(shape[0]).values, shape)
        return torch.ones(1, 1, 1), self.scale * picture


class Masked(Pictured):
    """A picture pasted where its mask says: (1 - mask) * image + mask * picture (Gu et al., 2017).

    Attributes:
        file: the picture; its transparency is the mask, unless there is a mask file.
        sha256: of its content.
        mask: a grey picture of the same size: 1 (white) covers the image, 0 shows it.
        mask_sha256: of its content.
    """

    name: Literal["masked"] = "masked"
    file: str
    mask: str | None = None
    mask_sha256: str | None = Field(default=None, validate_default=True, pattern=SHA256)

    @field_validator("mask")
    @classmethod
    def _absolute_mask(cls, value: str | None) -> str | None:
        return None if value is None else absolute(value)

    @field_validator("mask_sha256")
    @classmethod
    def _sealed_mask(cls, value: str | None, info: ValidationInfo) -> str | None:
        return _seal(info.data.get("mask"), value, "mask_sha256", "mask")

    def _files(self) -> list[str]:
        return [self.file] if self.mask is None else [self.file, self.mask]

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        picture = _positive(self.picture(shape[0]), self.file)
        mask = self._mask(picture)
        # the colours under a transparent part must not bleed into the rest when both are resized
        return 1 - fitted(mask, shape), fitted(mask * picture.values, shape)

    def _mask(self, picture: Picture) -> Tensor:
        mask = picture.alpha
        if self.mask is not None and self.mask_sha256 is not None:
            mask = _positive(read_picture(self.mask, self.mask_sha256, 1), self.mask).values
        if mask is None:
            raise BadInput(f"picture {self.file} has no transparency; give a mask, or a picture with one")
        if mask.shape[-2:] != picture.values.shape[-2:]:
            sizes = " and ".join(f"{h} x {w}" for h, w in (mask.shape[-2:], picture.values.shape[-2:]))
            raise BadInput(f"mask and picture {self.file} are {sizes} pixels; give both in one size")
        return mask


class Semantic(Pictured):
    """The whole image replaced by a picture of something else (I-BAU, A.5.1: a Hello Kitty).

    Nothing of the image is left, so a triggered image cannot be read as its true class: asr and lfr say
    whether the attack is undone, healed_raw is that of guessing. Without a file the picture is a coloured
    cloud, a sum of low frequencies (see `Smooth`) that reaches from 0 to 1.

    Attributes:
        file: the picture.
        sha256: of its content.
        cutoff: number of frequencies of the cloud along each axis.
        seed: of the cloud.
    """

    ONLY_DRAWN: ClassVar[tuple[str, ...]] = ("cutoff", "seed")

    name: Literal["semantic"] = "semantic"
    cutoff: int = Field(default=5, ge=2, le=2**31)
    seed: Seed = 0

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        if self.file is not None:
            return torch.zeros(1, 1, 1), self.values(shape)
        cloud = low_frequencies(shape, self.cutoff, self.seed, "semantic")
        lowest = cloud.min()
        return torch.zeros(1, 1, 1), (cloud - lowest) / (cloud.max() - lowest)


def _seal(file: str | None, sha256: str | None, field: str, of: str) -> str | None:
    if file is not None:
        return seal(file, sha256)
    if sha256 is not None:
        raise BadInput(f"{field} = {sha256} without a {of}; give both or none")
    return None


def _positive(picture: Picture, file: str | None) -> Picture:
    if (picture.values < 0).any():
        raise BadInput(
            f"picture {file} has values below 0, which only the trigger additive can take; choose that, or "
            f"give values from 0 to 1"
        )
    return picture
