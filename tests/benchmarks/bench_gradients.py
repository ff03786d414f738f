"""Whether importances of "sample" are right, for the families of timm and on this PyTorch.

    python tests/benchmarks/bench_gradients.py [--models NAME ...] [--samples N]

Every model has random weights and statistics, and is as small as its family allows. Truth is plain autograd
in float64, one sample at a time and with `sound_batch_norm`, itself held against a difference quotient of the
losses in a random direction, which needs no backward pass ("quotient": their relative difference). "ours":
the importances of float32; "single": truth's own way in float32, whose rounding "ours" cannot be better than
where a parameter has no influence (biases ahead of a softmax or a normalisation); "plain loop": what a loop
over single samples gives in float64 with PyTorch's own batch normalisation; all three as the largest error of
a tensor relative to its largest entry. "said": what was warned of, such as the slow path. Printed as a
Markdown table, model by model.
"""

from __future__ import annotations

import argparse
import copy
import logging
from typing import Any

import timm
import torch
from torch import Tensor, nn

from theriac.unlearning.importance.estimate import estimate_importance
from theriac.unlearning.inference import forget_biases
from theriac.unlearning.models.batch_norm import sound_batch_norm

FAMILIES = [
    "levit_128s",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "coat_lite_tiny",
    "coatnet_nano_rw_224",
    "maxvit_pico_rw_256",
    "convit_tiny",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "edgenext_xx_small",
    "poolformer_s12",
    "vit_tiny_r_s16_p8_224",
    "convnext_atto",
    "convnextv2_atto",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "mixer_s32_224",
    "deit_tiny_patch16_224",
    "cait_xxs24_224",
    "xcit_nano_12_p16_224",
    "pvt_v2_b0",
    "twins_svt_small",
    "crossvit_tiny_240",
    "visformer_tiny",
    "nextvit_small",
    "fastvit_t8",
    "repvit_m0_9",
    "tiny_vit_5m_224",
    "efficientvit_b0",
    "efficientvit_m0",
    "mobilenetv4_conv_small",
    "pit_ti_224",
    "botnet26t_256",
    "halonet26t",
    "lambda_resnet26t",
    "shvit_s1",
    "swiftformer_xs",
    "gcvit_xxtiny",
    "davit_tiny",
    "resmlp_12_224",
    "gmlp_ti16_224",
    "ghostnet_050",
    "regnetx_002",
    "nf_resnet26",
    "resnest14d",
    "skresnet18",
    "mobilenetv3_small_050",
    "mvitv2_tiny",
    "nest_tiny",
    "volo_d1_224",
    "tnt_s_patch16_224",
    "inception_next_atto",
    "caformer_s18",
    "starnet_s1",
]
SIDES = (64, 96, 128, None)


class Said(logging.Handler):
    """Keeps what is warned of."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.said.append(record.getMessage())


def _made(name: str, options: dict[str, Any]) -> nn.Module:
    model: nn.Module = timm.create_model(name, num_classes=5, **options)
    return model


def smallest(name: str) -> tuple[nn.Module, int]:
    """The model with random weights and statistics, and the side of the smallest images that it takes."""
    for side in SIDES:
        for options in ({} if side is None else {"img_size": side}, {}):
            try:
                torch.manual_seed(0)
                model = _made(name, options)
                used = side or int(getattr(model, "default_cfg", {})["input_size"][1])
                with torch.no_grad():
                    model.eval()(torch.zeros(2, 3, used, used))
            except Exception:
                continue
            return randomised(model), used
    raise ValueError(name)


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    """Statistics that are not 0 and 1, and parameters that are not constant."""
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand_like(buffer) * 0.5)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def gradients(model: nn.Module, sample: Tensor, *, sound: bool) -> dict[str, Tensor]:
    """Of the norm of the logits of one sample; 0 where it does not depend on a parameter."""
    parameters = dict(model.named_parameters())
    forget_biases(model)
    if sound:
        with sound_batch_norm(model):
            norm = model(sample).norm()
    else:
        norm = model(sample).norm()
    found = torch.autograd.grad(norm, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(parameters.items(), found, strict=True)
    }


def quotient_error(model: nn.Module, x: Tensor, alone: list[dict[str, Tensor]], step: float = 1e-6) -> float:
    """How far the slope of the losses is from their difference quotient, relative to it.

    In a random direction in which the losses grow, and in which every tensor has the same part, but for those
    with hardly any influence: they would have to move far out of the range of the model.
    """
    total = {name: torch.stack([g[name] for g in alone]).sum(0) for name in alone[0]}
    least = 1e-4 * max(float(value.norm()) for value in total.values())
    generator = torch.Generator().manual_seed(0)
    direction = {}
    for name, value in total.items():
        random = torch.rand(value.shape, generator=generator, dtype=value.dtype)
        direction[name] = random * value.sign() / value.norm().clamp(min=least)
    slope = sum(float((total[name] * direction[name]).sum()) for name in total)
    losses = []
    forget_biases(model)
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter.add_(sign * step * direction[name])
            forget_biases(moved)
            losses.append(float(moved(x).norm(dim=1).sum()))
    return abs((losses[0] - losses[1]) / (2 * step) - slope) / abs(slope)


def error(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """The largest error of a tensor relative to its largest entry, or to 1e-6 of the model's."""
    largest = max(float(value.max()) for value in truth.values())
    return max(
        float((found[name] - value).abs().max()) / max(float(value.max()), 1e-6 * largest)
        for name, value in truth.items()
    )


def row(name: str, samples: int) -> str:
    """A line of the table."""
    model, side = smallest(name)
    torch.manual_seed(1)
    x = torch.randn(samples, 3, side, side)
    forget_biases(model)  # they are no leaves, and could not be copied
    double = copy.deepcopy(model).double()
    alone = [gradients(double, one[None].double(), sound=True) for one in x]
    plain = [gradients(double, one[None].double(), sound=False) for one in x]
    single = [gradients(model, one[None], sound=True) for one in x]
    truth, loop, rounded = (mean_sizes(found) for found in (alone, plain, single))
    said = Said()
    logging.getLogger("theriac").addHandler(said)
    ours = estimate_importance(model, [(x, torch.zeros(samples, dtype=torch.int64))], kind="xlf").mean()
    logging.getLogger("theriac").removeHandler(said)
    quotient = quotient_error(double, x.double(), alone)
    return (
        f"| {name} | {side} | {quotient:.1e} | {error(ours, truth):.1e} | {error(rounded, truth):.1e} | "
        f"{error(loop, truth):.1e} | {'; '.join(said.said)} |"
    )


def mean_sizes(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Name -> mean absolute gradient."""
    return {name: torch.stack([g[name].abs() for g in rows]).mean(0) for name in rows[0]}


def main() -> None:
    """Parse the arguments, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=FAMILIES)
    parser.add_argument("--samples", type=int, default=3)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, timm {timm.__version__}\n")  # noqa: T201
    print("| model | side | quotient | ours | single | plain loop | said |\n|---|---|---|---|---|---|---|")  # noqa: T201
    for name in options.models:
        try:
            print(row(name, options.samples), flush=True)  # noqa: T201
        except (ValueError, RuntimeError) as error_:
            print(f"| {name} | {type(error_).__name__}: {str(error_).splitlines()[0]} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
