"""TRL's half of the parity tests of offline learning: ``python trl_offline_side.py OUT.npz FOLDER``.

Each real trainer computes the loss of one batch, unchanged; when its function returns, this script reads the
log-probs it was made of out of the returning frame, and takes the loss's gradient by them. The DPO trainer's
two models are left in FOLDER, with the tokens they read.
"""

import os
import sys
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from numpy import savez
from transformers import LlamaForCausalLM
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl_side import VOCABULARY, config, tokenizer

ROWS = 6
SHARED = {
    "per_device_train_batch_size": ROWS,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "max_length": 64,
}


def words(length):
    return " ".join(f"w{i}" for i in torch.randint(2, VOCABULARY, (length,)).tolist())


def pairs():
    """Prompts and answers of different lengths."""
    torch.manual_seed(0)
    return Dataset.from_list(
        [
            {"prompt": words(3 + i % 3), "chosen": " " + words(2 + i), "rejected": " " + words(7 - i)}
            for i in range(ROWS)
        ]
    )


def model(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(vocab_size=VOCABULARY + 1, pad_token_id=VOCABULARY))


def frame_of(function, call):
    """The variables of ``function`` (by name) where it returned in ``call()``, the last time it did."""
    found = {}

    def look(frame, event, value):
        if event == "return" and frame.f_code.co_name == function:
            found.update(frame.f_locals)

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def keep(out, name, seen, names, inputs, of="loss"):
    """The named tensors, and the gradient of the loss by those in ``inputs``."""
    gradients = torch.autograd.grad(seen[of], [seen[key] for key in inputs], retain_graph=True)
    for key, gradient in zip(inputs, gradients, strict=True):
        out[f"{name}/gradient/{key}"] = gradient.numpy()
    for key in (*names, *inputs, of):
        out[f"{name}/{key}"] = seen[key].detach().numpy()


def dpo(out, name, folder, where=None, **settings):
    trainer = DPOTrainer(
        model=model(1),
        ref_model=model(2),
        args=DPOConfig(output_dir=folder, beta=0.3, **SHARED, **settings),
        processing_class=tokenizer(),
        train_dataset=pairs(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    seen = frame_of("_compute_loss", lambda: trainer.compute_loss(trainer.model, dict(batch)))
    sides = ("chosen_logps", "rejected_logps")
    keep(out, name, seen, ("ref_chosen_logps", "ref_rejected_logps"), sides)
    out[f"{name}/lengths"] = batch["completion_mask"].sum(1).numpy()
    if where is not None:
        for key in ("input_ids", "attention_mask", "completion_mask"):
            out[f"{name}/{key}"] = batch[key].numpy()
        for kind, net in (("policy", trainer.model), ("reference", trainer.ref_model)):
            net.save_pretrained(where / kind)
            tokenizer().save_pretrained(where / kind)


def kto(out, folder, **weights):
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for i, row in enumerate(pairs())
        for side in (("chosen", "rejected") if i % 2 else ("chosen",))
    ][:ROWS]
    trainer = KTOTrainer(
        model=model(1),
        ref_model=model(2),
        args=KTOConfig(output_dir=folder, beta=0.3, **weights, **SHARED),
        processing_class=tokenizer(),
        train_dataset=Dataset.from_list(rows),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    seen = frame_of("_compute_loss", lambda: trainer.compute_loss(trainer.model, dict(batch)))
    names = ("ref_completion_logps", "KL_logps", "ref_KL_logps", "bool_labels", "kl")
    keep(out, "kto", seen, names, ("completion_logps",))


def without_reference(out, name, trainer, settings, folder):
    """ORPO and SimPO: only their own terms, for TRL's supervised term is of the prompt too."""
    made = trainer(
        model=model(1),
        args=settings(output_dir=folder),
        processing_class=tokenizer(),
        train_dataset=pairs(),
    )
    batch = next(iter(made.get_train_dataloader()))
    made.model.eval()
    seen = frame_of("get_batch_loss_metrics", lambda: made.compute_loss(made.model, dict(batch)))
    seen["mean"] = seen["losses"].mean()
    keep(out, name, seen, (), ("policy_chosen_logps", "policy_rejected_logps"), of="mean")


def main(path, where):
    out = {}
    folder = str(where / "out")
    dpo(out, "dpo", folder, where)
    dpo(out, "ipo", folder, loss_type="ipo")
    kto(out, folder, desirable_weight=1.3, undesirable_weight=0.7)
    own = dict(SHARED, max_completion_length=32)
    without_reference(out, "orpo", ORPOTrainer, lambda **k: ORPOConfig(beta=0.3, **own, **k), folder)
    simpo = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.4, "beta": 2.0}
    without_reference(out, "simpo", CPOTrainer, lambda **k: CPOConfig(**simpo, **own, **k), folder)
    savez(path, **out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
