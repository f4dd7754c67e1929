"""What the peer's halves of the benchmarks share: a trainer's settings, and when each of its steps ended."""

from transformers import TrainerCallback

from _steps import LEARNING_RATE, now


def quiet(folder, given):
    """Settings of every TRL trainer here: on the processor, and nothing but training is done."""
    return {
        "output_dir": folder,
        "learning_rate": LEARNING_RATE,
        "bf16": given.precision == "bfloat16",
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


class Clock(TrainerCallback):
    """The time of every step's end."""

    def __init__(self):
        self.marks = []

    def on_train_begin(self, *args, **kwargs):
        self.marks.append(now())

    def on_step_end(self, *args, **kwargs):
        self.marks.append(now())
