from .card_file import (
    keep_card as keep_card,
)
from .card_text import (
    model_card as model_card,
)
from .formats import (
    EXPORTS as EXPORTS,
    exported as exported,
)
