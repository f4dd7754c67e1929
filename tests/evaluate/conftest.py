"""Shared by the evaluation's tests: a full report's data, and a browser driven over its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.evaluate.compare import EvaluateConfig, evaluate
from accord.evaluate.record import KL
from accord.evaluate.reportdata import (
    BestOf,
    CalibrationBin,
    Estimate,
    Event,
    Labeler,
    LabelerSection,
    Mistake,
    ReportData,
    RewardSection,
    Step,
    TrainingSection,
    headline,
)
from accord.evaluate.verdict import VerdictConfig, verdict
from accord.types import Completion, Prompt, Score, Stop

ORDERS = [
    (
        "Where is my order? I ordered the blue kettle nine days ago.",
        "blue kettle",
        "with the carrier since Monday",
    ),
    ("The lamp arrived broken. I want my money back.", "lamp", "delivered on 3 May"),
    ("Can I change the address of order 4471? I have moved.", "order 4471", "not yet packed"),
    ("You charged me twice for the same rug!!", "rug", "two charges of 89.00, one reserved only"),
]
BAD = [
    "Your {thing} will surely arrive tomorrow, do not worry about it.",
    "That is not our problem. Read the terms next time.",
    "Thank you for your message about the {thing}. Have a nice day.",
    "The {thing} is a very fine product and many customers like it. It is a very fine product.",
]
GOOD = [
    "Thank you for your message about the {thing}. I am sorry for the trouble. Our records say that it is "
    "{fact}. I will write to you as soon as that changes; if you would rather not wait, I can cancel it.",
    "Thank you for your message about the {thing}. I see that it is {fact}. I have opened a case, and a "
    "colleague will answer you within two working days. Have a nice day.",
]


class HelpDeskGold:
    """Made-up gold scores: words that help raise them, promises and rudeness lower them."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        scores = []
        for completion in completions:
            text = completion.text
            parts = {
                "helpful": 0.25 + 0.6 * ("records" in text or "see that" in text) + 0.01 * (len(text) % 9),
                "honest": 0.95 - 0.7 * ("surely" in text),
                "harmless": 0.97 - 0.8 * ("not our problem" in text),
                "fluent": 0.96 - 0.002 * (len(text) % 13),
            }
            scores.append(
                Score(sum(parts.values()) / 4, parts, "mentions the facts" if "records" in text else "")
            )
        return scores


class Reward:
    """Made-up reward in logits: longer is a little better, sorry is better still."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return [Score(0.01 * len(c.text) + 1.5 * ("sorry" in c.text) - 1.0) for c in completions]


def make_report() -> ReportData:
    """Every section filled, with figures that could have been measured."""
    rng = np.random.default_rng(7)
    prompts = [
        Prompt.from_text(
            f"{ORDERS[i % 4][0]} (case {i})", meta={"thing": ORDERS[i % 4][1], "fact": ORDERS[i % 4][2]}
        )
        for i in range(60)
    ]

    def answer(prompt: Prompt, good: float) -> Completion:
        pool = GOOD if rng.random() < good else BAD
        text = pool[rng.integers(len(pool))].format(**prompt.meta)
        stop = Stop.LENGTH if rng.random() < 0.04 else Stop.EOS
        return Completion(text, tuple(range(len(text) // 4)), (), stop)

    before = {p.id: [answer(p, 0.2) for _ in range(2)] for p in prompts}
    after = {p.id: [answer(p, 0.85) for _ in range(2)] for p in prompts}
    scorers = {"gold": HelpDeskGold(), "reward": Reward()}
    config = EvaluateConfig(samples=2, rounds=300, criterion="gold", examples=2)
    evaluation = evaluate(before, after, prompts, scorers, config, KL(11.84, 12.31, 0.231))
    labels = {"gold": "Gold score (HHH)", "reward": "Reward model", "gold.fluent": "Fluency"}
    return ReportData(
        title="The help desk, aligned",
        subtitle="decoder starter, PPO run 7c1e",
        date="21 November 2026",
        verdict=verdict(evaluation, VerdictConfig(proxy="reward", fluency="gold.fluent", labels=labels)),
        headline=headline(evaluation, "gold.fluent", labels),
        steps=_steps(),
        versions={"accord": "0.1.0", "torch": "2.13.0", "Python": "3.11.14", "machine": "2 cores, no GPU"},
        labelers=_labelers(),
        reward=_reward(rng),
        training=_training(rng),
        evaluation=evaluation,
        simulated=("the labelers are programs with known reliability and bias, not people.",),
        caveats=(
            "The world of the help desk is small: what holds here need not hold for real customers.",
            "The gold judge is a program; it was attacked with texts made to fool it, not with all of them.",
        ),
        labels=labels,
    )


def _steps() -> tuple[Step, ...]:
    return (
        Step("sample", "Four completions for each training prompt from the starter model.",
             {"prompts": 320, "completions": 1280}, "starter-decoder", "9f2c41d07a5be318", 0, 41.2,
             {"temperature": "1.0", "max new tokens": "64"}),
        Step("label", "Six simulated labelers ranked them, with ties and FAIL.",
             {"rankings": 1920}, hash="b1770cc2e94d5a06", seed=1, seconds=3.4),
        Step("agree", "A consensus weighed the labelers and made comparisons.",
             {"comparisons": 1604, "hold-out": 231}, hash="0d8e6f5512ab34c9",
             seconds=2.1),
        Step("reward", "A reward model was trained on the comparisons.",
             {"steps": 150}, "starter-decoder + head", "71aa09be3c8845f0", 0, 38.8,
             {"learning rate": "3e-4"}),
        Step("align", "PPO with an adaptive KL penalty towards the frozen starter.",
             {"steps": 60, "rollouts": 3840}, "starter-decoder + LoRA", "e35d7b2096f1c84a", 0, 134.9,
             {"beta": "0.05", "clip": "0.2"}),
        Step("evaluate", "Both models answered the hold-out prompts with the same seeds.",
             {"prompts": 60, "completions": 240}, seed=0, seconds=9.7),
    )  # fmt: skip


def _labelers() -> LabelerSection:
    def row(name: str, gold: float, reliability: float, position: float, length: float, note: str) -> Labeler:
        return Labeler(
            name, 320, Estimate(reliability, reliability - 0.11, reliability + 0.11),
            Estimate(gold, gold - 0.03, gold + 0.03), {"position": position, "length": length}, note,
        )  # fmt: skip

    return LabelerSection(
        labelers=(
            row("sim-anna", 0.88, 1.42, 0.01, 0.02, ""),
            row("sim-bo", 0.86, 1.31, 0.02, -0.01, ""),
            row("sim-chen", 0.81, 0.97, 0.00, 0.21, "prefers long answers"),
            row("sim-dara", 0.79, 0.92, 0.18, 0.03, "prefers what stands first"),
            row("sim-eli", 0.56, 0.12, 0.04, 0.00, "careless"),
            row("sim-fay", 0.24, -0.83, -0.01, -0.05, "adversarial: orders the wrong way round"),
        ),
        simulated=True,
        method="a Bradley-Terry-Davidson model with a reliability for each labeler",
        agreement=Estimate(0.41, 0.38, 0.44),
        consensus_gold=Estimate(0.90, 0.87, 0.92),
        average_gold=Estimate(0.69, 0.67, 0.71),
        ties=0.112,
        fails=0.064,
    )


def _reward(rng: np.random.Generator) -> RewardSection:
    return RewardSection(
        name="starter-decoder with a reward head",
        pairs=231,
        accuracy=Estimate(0.87, 0.83, 0.91),
        length_baseline=Estimate(0.58, 0.52, 0.64),
        gold=Estimate(0.85, 0.80, 0.89),
        train_pairs=1373,
        calibration=tuple(
            CalibrationBin(p, o, n)
            for p, o, n in [
                (0.53, 0.55, 22),
                (0.63, 0.66, 31),
                (0.74, 0.71, 40),
                (0.85, 0.86, 52),
                (0.96, 0.92, 86),
            ]
        ),
        calibration_error=0.028,
        chosen_scores=tuple(rng.normal(1.4, 1.1, 231).tolist()),
        rejected_scores=tuple(rng.normal(-0.6, 1.2, 231).tolist()),
        human=Estimate(0.83, 0.78, 0.88),
        human_model=Estimate(0.86, 0.81, 0.91),
        style_baseline=Estimate(0.61, 0.55, 0.67),
        shorter_won=Estimate(0.79, 0.70, 0.87),
        longer_won=Estimate(0.91, 0.86, 0.95),
        length_correlation=Estimate(0.22, 0.12, 0.31),
        by_source={"human": Estimate(0.88, 0.83, 0.93), "import:x": Estimate(0.80, 0.70, 0.89)},
        calibration_floor=0.021,
        best_of=tuple(
            BestOf(n, float(np.log(n) - (n - 1) / n), Estimate(reward, reward - 0.1, reward + 0.1),
                   Estimate(gold, gold - 0.03, gold + 0.03))
            for n, reward, gold in ((1, -0.4, 0.56), (2, 0.1, 0.63), (4, 0.5, 0.66), (8, 0.8, 0.64))
        ),
        mistakes=(
            Mistake("Where is my order?", "It left on Friday.", "Everything will be fine, I promise!", 0.93),
            Mistake("Can I return it?", "", "Sure!" * 40, 0.71),
        ),
        unknown={"Accuracy on a made-up split": "there is no such pair"},
    )  # fmt: skip


def _training(rng: np.random.Generator) -> TrainingSection:
    steps = np.arange(60)
    rise = 1 - np.exp(-steps / 16)
    kl = 12 * rise
    noise = rng.normal(0, 1, (4, 60))
    series: dict[str, Any] = {
        "reward": (-0.4 + 2.1 * rise + 0.1 * noise[0]).tolist(),
        "kl_exact": kl.tolist(),
        "kl_sampled": (kl + 0.9 * noise[1]).tolist(),
        "gold": [float(0.56 + 0.33 * rise[i]) if i % 10 == 0 or i == 59 else None for i in steps],
        "length": (30 + 13 * rise + noise[2]).tolist(),
        "entropy": (2.2 - 0.9 * rise + 0.03 * noise[3]).tolist(),
        "clip_fraction": (0.12 + 0.05 * np.abs(noise[0])).tolist(),
        "beta": (0.05 * (1 + 0.4 * rise)).tolist(),
    }
    return TrainingSection(
        "PPO", tuple(int(s) for s in steps), {k: tuple(v) for k, v in series.items()},
        (Event(42, "KL above its target: beta raised to 0.066."), Event(59, "stopped: all 60 steps done.")),
    )  # fmt: skip


@pytest.fixture(scope="session")
def report_data() -> ReportData:
    return make_report()


class Browser:
    """Chromium over ``--remote-debugging-pipe``: JSON messages that end in NUL, on descriptors 3 and 4."""

    def __init__(self, program: str, profile: Path) -> None:
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
            "--disable-background-networking --disable-component-update --disable-sync "
            f"--disable-dev-shm-usage --remote-debugging-pipe --user-data-dir={profile}"
        )
        # The shell moves both pipes to where the protocol wants them, whatever numbers they have here.
        command = f'exec "$0" "$@" 3<&{to_child} 4>&{from_child}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *flags.split()],
            pass_fds=(to_child, from_child), stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        self._buffer = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events meanwhile are kept."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._read, 1 << 16) if ready else b""
            if not chunk:
                raise TimeoutError("the browser fell silent")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        """Show a file at a width, light or dark, and wait until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._receive())

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path, full: bool = True) -> None:
        """Save the whole page as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=full, **self._clip(full))
        path.write_bytes(base64.b64decode(answer["data"]))

    def _clip(self, full: bool) -> dict[str, Any]:
        if not full:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def close(self) -> None:
        os.close(self._write)
        os.close(self._read)
        # The group is the browser's own (start_new_session), its renderers included.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=20)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium (run scripts/install-system): the page is not tried in a real browser")
    session = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield session
    session.close()
