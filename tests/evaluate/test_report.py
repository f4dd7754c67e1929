"""The page: well-formed, self-contained, safe against any text, absent where data are."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

from accord.errors import DataError, NumericsError
from accord.evaluate import plots
from accord.evaluate.figures import between, count, enough_digits, number, seconds, signed
from accord.evaluate.record import Evaluation, Example, Figure, Kind, Row
from accord.evaluate.report import interval_bar, render_report, write_report
from accord.evaluate.reportdata import (
    BestOf,
    CalibrationBin,
    Estimate,
    Headline,
    Labeler,
    LabelerSection,
    Mistake,
    ReportData,
    RewardSection,
    Step,
    TrainingSection,
    headline,
)
from accord.evaluate.verdict import Concern, Outcome, Rule, Verdict
from accord.stats.intervals import Interval
from accord.types import Stop
from pages import Page


def bare(**fields: object) -> ReportData:
    return ReportData(title="A run", verdict=Verdict(Outcome.UNCHANGED, "Nothing to see."), **fields)  # type: ignore[arg-type]


def test_a_full_page_is_well_formed(report_data: ReportData) -> None:
    page = Page(render_report(report_data))
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert page.tags.count("h1") == 1
    assert page.tags.count("svg") == 10
    assert page.headings == [
        "What was done", "The simulated labelers", "The reward model", "Training", "Before and after",
        "Texts, side by side", "Caveats and terms",
    ]  # fmt: skip


def test_every_figure_says_what_it_shows(report_data: ReportData) -> None:
    html = render_report(report_data)
    svgs = re.findall(r"<svg[^>]*>", html)
    assert all('role="img"' in svg and re.search(r'aria-label="[^"]{20,}"', svg) for svg in svgs)
    assert html.count("<figcaption>") == len(svgs)


def test_the_page_loads_nothing(report_data: ReportData) -> None:
    html = render_report(report_data)
    page = Page(html)
    assert {"script", "link", "img", "iframe", "object", "embed"}.isdisjoint(page.tags)
    assert not [
        v for n, v in page.attributes if n in ("src", "srcset", "action", "data") or n.startswith("on")
    ]
    assert all(v.startswith("#") for n, v in page.attributes if n == "href")
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html
    assert "//" not in re.sub(r"<!--.*?-->", "", html)
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def test_the_same_data_give_the_same_bytes(report_data: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path / "new folder" / "report.html", report_data)
    again = ReportData.from_json(report_data.to_json())
    assert again == report_data
    assert (tmp_path / "new folder" / "report.html").read_text(encoding="utf-8") == render_report(again)


def test_figures_bring_no_style_of_their_own(report_data: ReportData) -> None:
    assert render_report(report_data).count("<style") == 1


def test_figures_follow_the_page_colours_and_font(report_data: ReportData) -> None:
    svgs = "".join(re.findall(r"<svg.*?</svg>", render_report(report_data), flags=re.S))
    assert "font-family" not in svgs
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", svgs)
    assert "var(--series-1)" in svgs
    assert "var(--series-2)" in svgs


def test_a_bare_page_has_no_empty_sections() -> None:
    page = Page(render_report(bare()))
    assert page.tags.count("section") == 1
    assert "svg" not in page.tags
    assert "None" not in page.text


def test_sections_with_little_in_them() -> None:
    data = bare(
        labelers=LabelerSection((Labeler("a", 3),), simulated=False),
        reward=RewardSection("rm", 12, Estimate(0.75)),
        training=TrainingSection("PPO", (0, 1), {"gold": (None, None)}),
        steps=(Step("sample", "Sampled."),),
    )
    page = Page(render_report(data))
    assert page.headings == [
        "What was done", "The labelers", "The reward model", "Training", "Caveats and terms"
    ]  # fmt: skip
    assert "simulated labelers" not in page.text
    assert "No training figures were recorded." in page.text
    assert "None" not in page.text
    assert "svg" not in page.tags


def test_what_is_known_of_a_reward_model_is_said(report_data: ReportData) -> None:
    text = Page(render_report(report_data)).text
    for words in (
        "A held-out labeler, against the others0.83 (0.78 to 0.88)",
        "Reward model, on the same judgements0.86 (0.81 to 0.91)",
        "Style alone, against the simulated labelers0.61 (0.55 to 0.67)",
        "Reward model, where the shorter one won0.79 (0.70 to 0.87)",
        "Reward model, on import:x0.80 (0.70 to 0.89)",
        "reward and length correlate by 0.22 (0.12 to 0.31)",
        "Accuracy on a made-up split: not known, because there is no such pair.",
        "Expected calibration error 0.028, where noise alone would show 0.021.",
        "Gold goes from 0.56 to 0.64",
        "93% sure, and wrong",
        "Everything will be fine, I promise!",
    ):
        assert words in text


def test_best_of_n_is_drawn_from_where_one_sample_stands() -> None:
    points = (
        BestOf(1, 0.0, Estimate(5.0), Estimate(0.5)),
        BestOf(2, 0.19, Estimate(6.0, 5.5, 6.5), Estimate(0.4)),
    )
    svg = plots.best_of(points, "b")
    assert "gold 0.40, from 0.50" in svg
    assert "reward 6.00, from 5.00 for one sample" in svg


def test_simulated_labelers_are_not_called_people(report_data: ReportData) -> None:
    assert "against people" not in render_report(report_data)
    assert "against the simulated labelers" in render_report(report_data)
    real = bare(reward=RewardSection("rm", 12, Estimate(0.75)))
    assert "against people" in render_report(real)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_verdict_is_said_in_words(outcome: Outcome) -> None:
    verdict = Verdict(outcome, "Because.", (Concern(Rule.LONGER, "Too long by far."),))
    page = Page(render_report(dataclasses.replace(bare(), verdict=verdict)))
    assert outcome.value in page.text
    assert "Too long by far." in page.text


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><svg onload=alert(1)>",
    "{{ 7 * 191 }}{% raw %}",
    "'); DROP TABLE rankings; --",
    "javascript:alert(1)",
    "\u202egnihton si siht\u2066",
    "a\x00b\x1b[31m\ud800",
    "W" * 4000,
    "ردّ \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301",
    "line\nline\r\n\n\ttab",
    "<!-- ]]> &amp; &#60;",
    "",
]


def hostile(text: str) -> ReportData:
    """A report with ``text`` wherever people's or models' words may stand."""
    figures = (Figure(f"{text}s", 0.1, 0.2),)
    row = Row(f"{text}s", Kind.SCORER, "higher", 0.1, 0.2, 0.3, 0.2, 0.2, 0.1, 0.3, 0.6, 0.5, 0.7)
    part = dataclasses.replace(row, name=f"{text}s.part", kind=Kind.PART)
    pair = Example(text, text, "gain", text, f"{text} more", Stop.EOS, Stop.LENGTH, figures, text, text)
    return ReportData(
        title=text, subtitle=text, date=text,
        verdict=Verdict(Outcome.WORSE, text, (Concern(Rule.HACKING, text),)),
        headline=(Headline(text, text, text, text),),
        steps=(Step(text, text, {text: 3}, text, text, 0, 1.0, {text: text}),),
        versions={text: text},
        labelers=LabelerSection(
            (Labeler(text, 2, None, None, {text: 0.1}, text),), True, text, Estimate(0.4), text
        ),
        reward=RewardSection(
            text, 4, Estimate(0.5, 0.4, 0.6), by_source={text: Estimate(0.5)}, unknown={text: text},
            mistakes=(Mistake(text, text, f"{text} more", 0.9),),
        ),
        training=TrainingSection(text, (0,), {"reward": (1.0,)}),
        evaluation=Evaluation(2, 1, row.name, 0.95, 200, 0, (row, part), (pair,), text),
        simulated=(text,), caveats=(text,), labels={row.name: text},
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_text(text: str) -> None:
    harmless, html = Page(render_report(hostile("x"))), render_report(hostile(text))
    page = Page(html)
    added = set(page.tags) - set(harmless.tags) - {"ins", "del"}
    assert not added
    assert not [n for n, _ in page.attributes if n.startswith("on")]
    assert "1337" not in html
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", html)
    html.encode()
    if "<" in text:
        assert text in page.text


def test_training_series_are_checked() -> None:
    with pytest.raises(DataError, match="did you mean 'reward'"):
        TrainingSection("PPO", (0,), {"rewards": (1.0,)})
    with pytest.raises(DataError, match="2 values for 1 steps"):
        TrainingSection("PPO", (0,), {"reward": (1.0, 2.0)})
    with pytest.raises(NumericsError, match="reward holds nan"):
        TrainingSection("PPO", (0,), {"reward": (math.nan,)})
    with pytest.raises(NumericsError, match="chosen_scores holds inf"):
        RewardSection("rm", 1, Estimate(0.5), chosen_scores=(math.inf,))


def test_estimates_from_the_statistics() -> None:
    assert Estimate.of(Interval(0.5, 0.4, 0.6, 9)) == Estimate(0.5, 0.4, 0.6)
    assert Estimate.of(Interval(0.5, math.nan, math.nan, 9)) == Estimate(0.5)
    with pytest.raises(NumericsError, match="estimate holds nan"):
        Estimate(math.nan)


def test_json_that_is_no_report_is_refused() -> None:
    with pytest.raises(DataError, match="not a report's data"):
        ReportData.from_json('{"title": 3}')


def test_headline(report_data: ReportData) -> None:
    assert report_data.evaluation is not None
    shown = headline(report_data.evaluation)
    assert [h.label for h in shown] == ["gold", "Win rate", "Exact KL", "words"]
    assert shown[2].value == "11.84"


def test_numbers_as_people_read_them() -> None:
    assert number(-1234.5, 1) == "−1\u202f234.5"
    assert count(1280) == "1\u202f280"
    assert [signed(x, 2) for x in (0.126, -0.126, 0.001, -0.001)] == ["+0.13", "−0.13", "0.00", "0.00"]
    assert between(-0.1, 0.2, 1) == "−0.1 to +0.2"
    assert [enough_digits(2, 0.0, 0.5), enough_digits(2, 0.004)] == [2, 3]
    assert [seconds(s) for s in (0.84, 9.96, 42.4, 59.7, 185, 7810)] == [
        "0.8 s", "10.0 s", "42 s", "1 min 00 s", "3 min 05 s", "2 h 10 min",
    ]  # fmt: skip


def test_bars_stay_on_their_scale() -> None:
    assert "--v:75.0%;--l:50.0%;--w:50.0%;--z:50.0%" in interval_bar(1, 0, 9, -2, 2)


def test_a_curve_of_one_point_and_a_constant_score_are_drawn() -> None:
    one = TrainingSection("PPO", (0,), {"reward": (1.0,)})
    assert "<path" in plots.curves(one, [("reward", "reward")], "one", "alt")
    flat = RewardSection("rm", 2, Estimate(0.5), chosen_scores=(1.0, 1.0), rejected_scores=(1.0, 1.0))
    assert "<path" in plots.scores(flat, "flat")
    assert "<path" in plots.calibration([CalibrationBin(0.9, 0.2, 0)], "cal")
