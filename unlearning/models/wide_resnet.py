"""WRN-28-10 (Zagoruyko and Komodakis, 2016) in the variant of Goel et al.'s program."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .preact_resnet import initialise_convolutions

WIDTHS = (16, 160, 320, 640)
BLOCKS = 4


class _Block(nn.Module):
    """BN-ReLU-conv twice, the second one strided; the shortcut is a convolution with BN of the bare input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.bn1(x)))
        out: Tensor = self.shortcut(x) + self.conv2(F.relu(self.bn2(inner)))
        return out


class WideResNet28(nn.Module):
    """A 3 x 3 stem, three groups of four wide pre-activated blocks, mean over positions, linear.

    At width 1 and 3 channels: 36,547,940 parameters for 100 classes and 36,490,250 for 10; 5.95 GMAC for
    32 x 32 images. These are the figures of Goel et al.'s program, which the Potion paper's CIFAR-100 victims
    come from. It differs from the paper (36,536,884 parameters, 5.25 GMAC): convolutions have biases,
    the second convolution of a block is the strided one, shortcut convolutions see the bare input and are
    followed by BatchNorm, and there is no BatchNorm and ReLU after the last block. No dropout. The names of
    the state dict are that program's.

    Args:
        num_classes: logits per image.
        in_channels: channels of the images.
        widths: channels of the stem and of the three groups; the last two groups halve the sides.

    Images are [N, in_channels, H, W] of any size; the logits are [N, num_classes].
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, widths: tuple[int, int, int, int] = WIDTHS
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.layer1 = _group(widths[0], widths[1], 1)
        self.layer2 = _group(widths[1], widths[2], 2)
        self.layer3 = _group(widths[2], widths[3], 2)
        self.fc = nn.Linear(widths[3], num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _group(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = _Block(inputs, outputs, stride)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1) for _ in range(BLOCKS - 1)))
