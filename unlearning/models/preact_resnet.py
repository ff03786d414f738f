"""PreAct-ResNet-18 for small images (He et al., 2016, "Identity mappings in deep residual networks")."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 128, 256, 512)
BLOCKS = 2


class _Block(nn.Module):
    """BN-ReLU-conv twice; where the shape changes, the shortcut is a convolution of the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out


class PreActResNet18(nn.Module):
    """A 3 x 3 stem without max-pooling, four stages of two pre-activated blocks, BN-ReLU, mean, linear.

    At width 1, 3 channels and 10 classes: 11,172,170 parameters. The BatchNorm and ReLU after the last block
    are the paper's (its appendix: the output of the last unit is activated too). The CIFAR program that WaNet
    and others use leaves them out (11,171,146 parameters), so its checkpoints do not fit.

    Args:
        num_classes: logits per image.
        in_channels: channels of the images.
        widths: channels of the four stages; every stage after the first halves the sides of its images.

    Images are [N, in_channels, H, W] of any size, those of 8 x 8 end as 1 x 1; the logits [N, num_classes].
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, widths: tuple[int, int, int, int] = WIDTHS
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.layer1 = _stage(widths[0], widths[0], 1)
        self.layer2 = _stage(widths[0], widths[1], 2)
        self.layer3 = _stage(widths[1], widths[2], 2)
        self.layer4 = _stage(widths[2], widths[3], 2)
        self.bn = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        logits: Tensor = self.fc(F.relu(self.bn(x)).mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = _Block(inputs, outputs, stride)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1) for _ in range(BLOCKS - 1)))


def initialise_convolutions(model: nn.Module) -> None:
    """Draw normal weights of variance 2 / (outputs * kernel area), and set biases to 0 (He et al., 2015)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
