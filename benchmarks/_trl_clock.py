"""When each step of a TRL trainer ended; for the peer's halves of the benchmarks."""

from transformers import TrainerCallback

from _steps import now


class Clock(TrainerCallback):
    """The time of every step's end."""

    def __init__(self):
        self.marks = []

    def on_train_begin(self, *args, **kwargs):
        self.marks.append(now())

    def on_step_end(self, *args, **kwargs):
        self.marks.append(now())
