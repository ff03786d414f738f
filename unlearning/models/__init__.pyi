from .batch_norm import (
    differentiable as differentiable,
    sound_batch_norm as sound_batch_norm,
)
from .build import (
    MODELS as MODELS,
    ModelSpec as ModelSpec,
    create_model as create_model,
    seeded as seeded,
)
from .checkpoints import (
    load_into as load_into,
    load_weights as load_weights,
)
