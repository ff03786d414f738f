"""The small VGG of the I-BAU paper (Zeng et al., 2022, Table 9)."""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import BadInput

WIDTHS = (32, 64, 128)
SMALLEST_SIDE = 8
DROPOUT = (0.3, 0.4, 0.4)


class SmallVGG(nn.Module):
    """Three blocks of two 3 x 3 convolutions (BatchNorm, ELU), max-pooling and dropout; a linear layer.

    The names of its state dict are those of the published victims: ``features.N`` and ``classifier``.
    308,394 parameters for 10 classes and 32 x 32 images; those take pixels in [0, 1].

    Args:
        num_classes: logits per image.
        shape: (channels, height, width) of the images; each side is halved three times, rounding down.
        widths: channels of the three blocks.

    Raises:
        BadInput: images below 8 x 8.
    """

    def __init__(
        self, *, num_classes: int, shape: tuple[int, int, int], widths: tuple[int, int, int] = WIDTHS
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < SMALLEST_SIDE:
            raise BadInput(
                f"the small VGG cannot halve images of {height} x {width} three times; give an image_size of "
                f"at least {SMALLEST_SIDE}"
            )
        layers: list[nn.Module] = []
        for outputs, dropout in zip(widths, DROPOUT, strict=True):
            layers += [
                *_conv(channels, outputs),
                *_conv(outputs, outputs),
                nn.MaxPool2d(2),
                nn.Dropout(dropout),
            ]
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * (height // 8) * (width // 8), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ELU()
