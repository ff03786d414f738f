"""Heals poisoned image classifiers, and searches for the hyperparameters that do it best.

``theriac.heal(model, forget=..., retain=..., method="xlf")`` is the short way in; the folders hold the parts:
`theriac.datasets`, `theriac.unlearning`, `theriac.search` and `theriac.cluster`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import BadInput

if TYPE_CHECKING:
    from .search.heal import heal

__version__ = "0.1.0.dev0"

__all__ = ["BadInput", "__version__", "heal"]


if not TYPE_CHECKING:  # type checkers know the names above and shall complain about others

    def __getattr__(name: str) -> object:
        # `import theriac` stays instant: torch is loaded on the first use of `heal` (PEP 562)
        if name == "heal":
            from .search.heal import heal

            return heal
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
