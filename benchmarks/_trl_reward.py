"""TRL's half of real_feedback.py: RewardTrainer on the token ids accord's side trains on.

Reads {"base", "train": [[chosen ids, rejected ids], ...], "test": the same, "settings"} from the file
named first, writes {"scores": [[chosen, rejected], ...], "seconds", "cpu_seconds"} to the one named second.
"""

import json
import os
import sys
import tempfile
import time

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer


@torch.no_grad()
def scores(model, pairs, pad_id, rows=64):
    """The reward of each side, rows of alike length together."""
    texts = [ids for pair in pairs for ids in pair]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = [0.0] * len(texts)
    model.eval()
    for at in range(0, len(order), rows):
        part = order[at : at + rows]
        width = max(len(texts[i]) for i in part)
        ids = torch.tensor([texts[i] + [pad_id] * (width - len(texts[i])) for i in part])
        mask = torch.tensor([[1] * len(texts[i]) + [0] * (width - len(texts[i])) for i in part])
        device = model.device
        rewards = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits[:, 0]
        for i, reward in zip(part, rewards.tolist(), strict=True):
            found[i] = reward
    return [found[i : i + 2] for i in range(0, len(found), 2)]


def main():
    with open(sys.argv[1]) as file:
        given = json.load(file)
    settings = given["settings"]
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(given["base"])
    model = AutoModelForSequenceClassification.from_pretrained(
        given["base"], num_labels=1, pad_token_id=tokenizer.pad_token_id, dtype=torch.float32
    )
    train = Dataset.from_list([{"chosen_ids": c, "rejected_ids": r} for c, r in given["train"]])
    clock, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder,
            num_train_epochs=settings["epochs"],
            per_device_train_batch_size=settings["batch"],
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=settings["warmup_steps"],
            center_rewards_coefficient=settings["centering"],
            max_length=settings["max_length"],
            adam_beta2=0.95,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            seed=settings["seed"],
        )
        RewardTrainer(model=model, args=config, train_dataset=train, processing_class=tokenizer).train()
    took = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    with open(sys.argv[2], "w") as file:
        json.dump({"scores": scores(model, given["test"], tokenizer.pad_token_id), **took}, file)


if __name__ == "__main__":
    main()
