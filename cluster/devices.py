"""The devices of this machine, by the names that `--device` takes."""

from __future__ import annotations

import torch

from ..errors import BadInput


def choose_device(name: str) -> torch.device:
    """Find the device called ``name``; "auto" is the GPU if there is one.

    Raises:
        BadInput: no such device, or none of this machine; PyTorch itself would say so only when it is used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"unknown device {name!r}; give auto, cpu, cuda, or cuda:0 and so on") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"device {name!r}: PyTorch sees {torch.cuda.device_count()} CUDA GPUs; give --device cpu, or "
            f"see what `theriac doctor` says about the driver"
        )
    if device.type not in usable_kinds():
        raise BadInput(
            f"device {name!r}: this machine has none; give {' or '.join(['auto', *usable_kinds()])}"
        )
    return torch.device("cpu") if device.type == "cpu" else device


def usable_kinds() -> list[str]:
    """List the kinds of devices that theriac can use here; "cpu" comes first."""
    found = {"cuda": torch.cuda.device_count() > 0, "mps": torch.backends.mps.is_available()}
    return ["cpu", *(kind for kind, there in found.items() if there)]
