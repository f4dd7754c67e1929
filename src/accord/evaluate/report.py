"""The report: one HTML file with its styles and figures inside, no script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from accord.evaluate import plots
from accord.evaluate.figures import between, count, enough_digits, number, seconds, signed
from accord.evaluate.record import Evaluation, Example, Kind, Row
from accord.evaluate.reportdata import Estimate, ReportData, RewardSection, TrainingSection
from accord.evaluate.verdict import Outcome
from accord.evaluate.worddiff import Marked, clean, mark

_TEXT_LABELS: Mapping[str, tuple[str, str]] = {
    "words": ("Length in words", "a completion"),
    "tokens": ("Length in tokens", "a completion"),
    "repetition": ("Repetition", "3-grams already seen in the same text"),
    "empty": ("Empty", "share of completions"),
    "truncated": ("Truncated", "share cut off at the length limit"),
    "diversity": ("Diversity", "1 − overlap between a prompt's samples"),
    "distinct_1": ("Distinct-1", "different words of all words"),
    "distinct_2": ("Distinct-2", "different word pairs of all pairs"),
    "distinct_3": ("Distinct-3", "different word triples of all triples"),
}
_PanelSpec = tuple[str, Sequence[tuple[str, str]], str]
# Title, (series, legend) pairs, what to look for.
_MAIN: Sequence[_PanelSpec] = (
    ("Reward", [("reward", "reward")], "What training optimises: it should rise and level off."),
    (
        "Gold score",
        [("gold", "gold")],
        "What is really wanted: if it falls while the reward rises, the reward is being hacked.",
    ),
    (
        "KL to the reference",
        [("kl_exact", "exact"), ("kl_sampled", "sampled")],
        "Nats a completion. The two should run together; the sampled one is noisier and may dip below zero.",
    ),
    (
        "Length",
        [("length", "tokens")],
        "Tokens a completion: a steady climb often means that the reward likes length.",
    ),
    ("Entropy", [("entropy", "entropy")], "Nats a token: near zero the policy says one thing only."),
)
_SMALL: Sequence[_PanelSpec] = (
    (
        "Clip fraction",
        [("clip_fraction", "clip fraction")],
        "Tokens whose update was clipped; above about 0.3 the steps are too large.",
    ),
    (
        "KL coefficient",
        [("beta", "beta")],
        "The price of leaving the reference; it moves only under an adaptive controller.",
    ),
)
_SHARES = {"repetition", "empty", "truncated"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure with its caption."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of the before/after table, as shown."""

    label: str
    hint: str
    part: bool
    before: str
    before_sd: str
    after: str
    after_sd: str
    difference: str
    interval: str
    bar: Markup
    win: str
    win_interval: str
    change: str
    """better | worse | changed | no measurable change | not tested."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One example, as shown: its figures are (label, value) pairs."""

    example: Example
    marked: Marked
    figures_before: list[tuple[str, str]]
    figures_after: list[tuple[str, str]]


def write_report(path: Path, data: ReportData) -> None:
    """Write :func:`render_report`'s page to ``path``, making its folder where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(data), encoding="utf-8")


def render_report(data: ReportData) -> str:
    """The page as HTML: self-contained, every text escaped, the same bytes for the same data."""
    evaluation = data.evaluation
    judges = "the simulated labelers" if data.labelers and data.labelers.simulated else "people"
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            symbol={Outcome.IMPROVED: "▲", Outcome.UNCHANGED: "■", Outcome.WORSE: "▼"}[data.verdict.outcome],
            scorer_rows=_table(evaluation, data.labels, (Kind.SCORER, Kind.PART)) if evaluation else [],
            text_rows=_table(evaluation, data.labels, (Kind.TEXT, Kind.CORPUS)) if evaluation else [],
            tested=_tested(evaluation, data.labels) if evaluation else "",
            examples=_examples(evaluation, data.labels) if evaluation else [],
            reward_bars=_reward_bars(data.reward, judges) if data.reward else [],
            reward_panels=_reward_panels(data.reward, judges) if data.reward else [],
            panels=_main_panels(data.training) if data.training else [],
            small_panels=_small_panels(data.training) if data.training else [],
        )
    )


@cache
def environment() -> Environment:
    """The templates of every page here, each text escaped."""
    environment = Environment(
        loader=PackageLoader("accord.evaluate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters.update(number=number, interval=interval, seconds=seconds, count=count, bar=unit_bar)
    return environment


def interval(figure: Estimate, digits: int = 2) -> str:
    """``0.71 (0.66 to 0.75)``; the bare figure where it has no interval."""
    if figure.low is None or figure.high is None:
        return number(figure.value, digits)
    return f"{number(figure.value, digits)} ({number(figure.low, digits)} to {number(figure.high, digits)})"


def interval_bar(
    value: float, low: float, high: float, start: float, end: float, zero: float = 0.0
) -> Markup:
    """A dot with its interval on the scale ``start .. end``, a tick at ``zero``; figures stand beside it."""
    at = [100 * (min(max(x, start), end) - start) / (end - start) for x in (value, low, high, zero)]
    style = f"--v:{at[0]:.1f}%;--l:{at[1]:.1f}%;--w:{at[2] - at[1]:.1f}%;--z:{at[3]:.1f}%"
    return Markup('<span class="bar" style="{}" aria-hidden="true"><i></i></span>').format(style)


def unit_bar(figure: Estimate, zero: float = 0.5) -> Markup:
    """An interval on the scale 0 .. 1 with a tick at ``zero``, chance unless told."""
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    return interval_bar(figure.value, low, high, 0.0, 1.0, zero)


def _table(evaluation: Evaluation, labels: Mapping[str, str], kinds: Sequence[Kind]) -> list[TableRow]:
    rows = [row for row in evaluation.rows if row.kind in kinds]
    reach = max((_reach(row) for row in rows), default=0.0)
    return [_table_row(row, labels, reach) for row in rows]


def _reach(row: Row) -> float:
    """How far the interval reaches from 0, in standard deviations of before, 4 at most."""
    if not row.before_sd or row.low is None or row.high is None:
        return 0.0
    return min(max(abs(row.low), abs(row.high)) / row.before_sd, 4.0)


def _table_row(row: Row, labels: Mapping[str, str], reach: float) -> TableRow:
    label, hint = _TEXT_LABELS.get(row.name, (row.name.rpartition(".")[2], ""))
    scale, unit = (100.0, "%") if row.name in _SHARES else (1.0, "")
    largest = scale * max(abs(row.before_mean), abs(row.after_mean))
    digits = 1 if unit or largest >= 10 else 3

    def show(value: float) -> str:
        return number(scale * value, digits) + unit

    ends = [scale * end for end in (row.low, row.high) if end is not None]
    fine = enough_digits(digits, scale * row.difference, *ends)
    bar = Markup("")
    if row.before_sd and row.low is not None and row.high is not None and reach > 0:
        sd = row.before_sd
        bar = interval_bar(row.difference / sd, row.low / sd, row.high / sd, -reach, reach)
    won = row.win_rate is not None and row.win_low is not None and row.win_high is not None
    return TableRow(
        label=labels.get(row.name, label),
        hint=hint,
        part=row.kind is Kind.PART,
        before=show(row.before_mean),
        before_sd="" if row.before_sd is None else show(row.before_sd),
        after=show(row.after_mean),
        after_sd="" if row.after_sd is None else show(row.after_sd),
        difference=signed(scale * row.difference, fine) + unit,
        interval=between(ends[0], ends[1], fine) if ends else "",
        bar=bar,
        win=f"{row.win_rate:.0%}" if won else "",
        win_interval=f"{row.win_low:.0%} to {row.win_high:.0%}" if won else "",
        change=_change(row),
    )


def _tested(evaluation: Evaluation, labels: Mapping[str, str]) -> str:
    """What could be found, and how many of the figures nobody named beforehand are to be believed."""
    said = []
    main = evaluation.row(evaluation.criterion)
    if main.detectable is not None:
        said.append(
            f"So many prompts find a difference of {number(main.detectable, 2)} in "
            f"{labels.get(main.name, main.name)} four times in five; a smaller one would mostly go unseen."
        )
    others = [row for row in evaluation.rows if row.p is not None and row.p_holm is not None]
    alone = [row for row in others if row.p is not None and row.p <= 1 - evaluation.confidence]
    if alone:
        kept = [row for row in others if row.p_holm is not None and row.p_holm <= 1 - evaluation.confidence]
        names = ", ".join(labels.get(r.name) or _TEXT_LABELS.get(r.name, (r.name, ""))[0] for r in kept)
        said.append(
            f"Beside it {len(others)} figures were looked at, of which {len(alone)} moved by their own test; "
            f"with Holm's correction for looking at so many, {len(kept)} may be claimed together"
            f"{': ' + names if names else ''}."
        )
    return " ".join(said)


def _change(row: Row) -> str:
    if row.low is None or row.high is None:
        return "not tested"
    if row.low <= 0 <= row.high:
        return "no measurable change"
    if row.better == "neither":
        return "changed"
    return "better" if (row.low > 0) == (row.better == "higher") else "worse"


def _examples(evaluation: Evaluation, labels: Mapping[str, str]) -> list[tuple[str, list[Pair]]]:
    titles = {"gain": "Largest gains", "loss": "Largest losses", "random": "Drawn at random"}
    groups = []
    for why, title in titles.items():
        found = [pair_shown(example, labels) for example in evaluation.examples if example.why == why]
        if found:
            groups.append((title, found))
    return groups


def pair_shown(example: Example, labels: Mapping[str, str]) -> Pair:
    """An example's two texts with their differences marked and its figures as read."""
    named = [(labels.get(f.name, f.name.rpartition(".")[2]), f) for f in example.figures]
    return Pair(
        example,
        mark(example.before, example.after),
        [(label, number(f.before, 2)) for label, f in named],
        [(label, number(f.after, 2)) for label, f in named],
    )


def _reward_bars(reward: RewardSection, judges: str) -> list[tuple[str, Estimate]]:
    named = [
        (f"Reward model, against {judges}", reward.accuracy),
        ("A held-out labeler, against the others", reward.human),
        ("Reward model, on the same judgements", reward.human_model),
        (f"Style alone, against {judges}", reward.style_baseline),
        (f"Always the longer one, against {judges}", reward.length_baseline),
        ("Reward model, where the shorter one won", reward.shorter_won),
        ("Reward model, where the longer one won", reward.longer_won),
        *((f"Reward model, on {name}", figure) for name, figure in reward.by_source.items()),
        ("Reward model, against gold", reward.gold),
    ]
    return [(label, figure) for label, figure in named if figure is not None]


def _reward_panels(reward: RewardSection, judges: str) -> list[Panel]:
    panels = []
    if reward.calibration:
        svg = plots.calibration(reward.calibration, "calibration")
        error = reward.calibration_error
        told = "" if error is None else f" Expected calibration error {error:.3f}"
        if told and reward.calibration_floor is not None:
            told += f", where noise alone would show {reward.calibration_floor:.3f}"
        told += "." if told else ""
        panels.append(
            Panel(
                "Calibration",
                Markup(svg),
                f"How sure the reward model is of its choice, and how often {judges} chose the same. On the "
                "dashed line it is as sure as it should be; below it, too sure. Larger dots hold more "
                f"comparisons.{told}",
            )
        )
    if reward.chosen_scores and reward.rejected_scores:
        panels.append(
            Panel(
                "Scores",
                Markup(plots.scores(reward, "scores")),
                "Rewards of the hold-out's chosen and rejected completions. The further the two hills stand "
                f"apart, the more often the model agrees with {judges}.",
            )
        )
    if reward.best_of:
        first, last = reward.best_of[0], reward.best_of[-1]
        panels.append(
            Panel(
                "Best of n",
                Markup(plots.best_of(reward.best_of, "best-of")),
                f"The reward model's favourite of n samples, n from {first.n} to {last.n}, with 95% bands. "
                f"Gold goes from {number(first.gold.value, 2)} to {number(last.gold.value, 2)}: where it "
                "turns while the reward still rises, choosing harder harms.",
            )
        )
    return panels


def _panel(
    training: TrainingSection, title: str, names: Sequence[tuple[str, str]], see: str, width: float
) -> Panel | None:
    shown = [name for name, _ in names if any(v is not None for v in training.series.get(name, ()))]
    if not shown:
        return None
    moves = []
    for name in shown:
        values = [v for v in training.series[name] if v is not None]
        label = dict(names)[name]
        moves.append(f"{label} from {number(values[0], 2)} to {number(values[-1], 2)}")
    told = "; ".join(moves) + "."
    drawn = [pair for pair in names if pair[0] in shown]
    svg = plots.curves(training, drawn, f"curve-{shown[0]}", f"{title}: {told}", width)
    return Panel(title, Markup(svg), f"{told[0].upper()}{told[1:]} {see}")


def _main_panels(training: TrainingSection) -> list[Panel]:
    return [panel for panel in (_panel(training, *spec, plots.WIDE) for spec in _MAIN) if panel]


def _small_panels(training: TrainingSection) -> list[Panel]:
    return [panel for panel in (_panel(training, *spec, plots.NARROW) for spec in _SMALL) if panel]
