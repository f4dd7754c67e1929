"""accord turns people's judgements into a language model's behaviour, and shows that it worked.

Importing this package loads no torch; the stages are imported from their own modules.
"""

from accord.environment import Environment, Turn
from accord.errors import AccordError, ConfigError, DataError, ModelError, NumericsError, StoreError
from accord.judgements import Comparison, Ranking, Thumb
from accord.types import Completion, Message, Origin, Prompt, Rollout, Sampler, Score, Scorer, Stop

__version__ = "0.1.0"

__all__ = [
    "AccordError", "Comparison", "Completion", "ConfigError", "DataError", "Environment", "Message",
    "ModelError", "NumericsError", "Origin", "Prompt", "Ranking", "Rollout", "Sampler", "Score", "Scorer",
    "Stop", "StoreError", "Thumb", "Turn", "__version__",
]  # fmt: skip
