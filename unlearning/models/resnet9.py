"""ResNet-9 as the Potion paper uses it (design.md section 2), with a width factor."""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import BadInput

WIDTHS = (64, 128, 128, 128, 256, 256, 256, 128)
SMALLEST_SIDE = 11
CELU_ALPHA = 0.075


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding),
        nn.BatchNorm2d(outputs),
        nn.CELU(alpha=CELU_ALPHA),
    )


class _Residual(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.module(x)
        return out


class ResNet9(nn.Module):
    """Convolutions with bias, BatchNorm and CELU(0.075); a linear head without bias.

    At width 1, 3 channels and 10 classes: 33 parameter tensors, 2,276,224 parameters.

    Args:
        num_classes: logits per image.
        in_channels: channels of the images.
        widths: channels of the eight convolutions. The two inside a residual block end as wide as the
            block's input, so widths[3] == widths[1] and widths[6] == widths[4].

    Images are [N, in_channels, H, W] with H and W at least 11; the logits are [N, num_classes].
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        if len(widths) != 8 or min(widths) < 1 or widths[3] != widths[1] or widths[6] != widths[4]:
            raise BadInput(
                f"ResNet-9 widths {widths}: give eight positive numbers with the 4th equal to the 2nd and "
                f"the 7th equal to the 5th, as in {WIDTHS}"
            )
        a, b, c, d, e, f, g, h = widths
        self.conv1 = _conv(in_channels, a)
        self.conv2 = _conv(a, b, kernel=5, stride=2, padding=2)
        self.res1 = _Residual(nn.Sequential(_conv(b, c), _conv(c, d)))
        self.conv3 = nn.Sequential(_conv(d, e), nn.MaxPool2d(2))
        self.res2 = _Residual(nn.Sequential(_conv(e, f), _conv(f, g)))
        self.conv4 = nn.Sequential(_conv(g, h, padding=0), nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.fc = nn.Linear(h, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < SMALLEST_SIDE:
            raise BadInput(
                f"ResNet-9 got images of {x.shape[-2]} x {x.shape[-1]}: after two halvings its last 3 x 3 "
                f"convolution needs at least {SMALLEST_SIDE} x {SMALLEST_SIDE}; give a larger image_size"
            )
        x = self.res1(self.conv2(self.conv1(x)))
        logits: Tensor = self.fc(self.conv4(self.res2(self.conv3(x))))
        return logits


def scaled_widths(width: float, widths: tuple[int, ...] = WIDTHS) -> tuple[int, ...]:
    """Scale the widths of a paper (ResNet-9's unless given) by ``width``, to at least 1 channel each."""
    return tuple(max(1, round(channels * width)) for channels in widths)
