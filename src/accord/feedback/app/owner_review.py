"""Disputed prompts side by side, a reviewer's final ranking of one, and gold items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from sqlalchemy import func, select
from starlette.responses import Response

from accord.errors import DataError
from accord.feedback.app.deps import Desk, TheDesk
from accord.feedback.app.owner_desk import PATIENCE, Viewer, back, show, studies
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.monitor_review import PURPOSE, Case, adjudicate, case
from accord.feedback.labeling.monitor_study import Study
from accord.feedback.labeling.people import Session
from accord.feedback.labeling.queue import set_gold
from accord.judgements import Ranking
from accord.stats.rankings import levels
from accord.store import rows as r
from accord.store import state as t

router = APIRouter()
PAGE = 25
CANDIDATES = 20
LEAST_LABELERS = 3
FAIL = "fail"
Id = Annotated[str, Form(max_length=500)]


@router.get("/disagreements")
def disagreements_page(
    request: Request, at: TheDesk, session: Viewer, start: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Prompts that good labelers disagree on, hottest first."""
    latest = studies(request).latest(PATIENCE)
    found = latest.disputes if latest else []
    page = found[start : start + PAGE]
    a = t.assignments.c
    with at.store.database.read() as connection:
        closed = connection.execute(
            select(func.count(a.prompt_id.distinct())).where(a.purpose == PURPOSE)
        ).scalar_one()
    return show(
        request,
        at,
        session,
        "disagreements.html",
        "/owner/disagreements",
        study=latest,
        busy=studies(request).busy,
        page=page,
        start=start,
        size=PAGE,
        total=len(found),
        closed=closed,
        prompts={prompt.id: prompt for prompt in at.store.prompts(ids=[each.prompt_id for each in page])},
    )


@router.get("/case")
def case_page(
    request: Request, at: TheDesk, session: Viewer, prompt: Annotated[str, Query(max_length=500)]
) -> Response:
    """A prompt with everybody's rankings and the form of the final one."""
    return _case_page(request, at, session, prompt)


async def fields(request: Request) -> dict[str, str]:
    """The form's fields, whatever their names."""
    form = await request.form()
    return {name: value for name, value in form.items() if isinstance(value, str)}


@router.post("/case")
def adjudicate_case(
    request: Request, at: TheDesk, session: Viewer, given: Annotated[dict[str, str], Depends(fields)]
) -> Response:
    """Store the final ranking: a field a completion, its value a tier's number or ``fail``."""
    prompt_id, note = given.get("prompt", ""), given.get("note", "")
    try:
        tiers, fails = places(given)
        version, _ = at.workspace.guidelines()
        answer = Answer(tiers, fails, note=note.strip())
        adjudicate(at.store, session.person.name, prompt_id, answer, version, at.config, at.clock())
    except DataError as error:
        return _case_page(request, at, session, prompt_id, error=str(error), given=given)
    return back("/owner/case", "adjudicated", prompt=prompt_id)


@router.post("/gold")
def make_gold(
    at: TheDesk,
    session: Viewer,
    request: Request,
    prompt: Id,
    source: Annotated[str, Form(pattern="^(final|consensus|gold)$")],
    use: Annotated[str, Form(pattern="^(mixed|quiz)$")],
) -> Response:
    """Make a prompt gold by its final ranking or the consensus, or change how a gold item is used."""
    found = case(at.store, prompt, session.person.name, at.config.criterion)
    answer = _answer(found, source, studies(request).latest())
    set_gold(at.store, prompt, answer.tiers, answer.fails, use == "quiz", at.config.criterion)
    return back("/owner/gold" if source == "gold" else "/owner/case", "gold", prompt=prompt)


@router.get("/gold")
def gold_page(request: Request, at: TheDesk, session: Viewer) -> Response:
    """The items of known answer, and prompts that could be one."""
    latest = studies(request).latest(PATIENCE)
    a = t.assignments.c
    with at.store.database.read() as connection:
        rows = list(r.stream(connection, select(t.gold)))
        answered = select(a.prompt_id, func.count()).where(
            a.purpose.in_(["gold", "quiz"]), a.state == "submitted"
        )
        asked = {str(id): int(n) for id, n in connection.execute(answered.group_by(a.prompt_id))}
    known = {row["prompt_id"] for row in rows}
    candidates = [id for id in _candidates(latest) if id not in known][:CANDIDATES]
    prompts = at.store.prompts(ids=[*known, *candidates])
    return show(
        request,
        at,
        session,
        "gold.html",
        "/owner/gold",
        study=latest,
        busy=studies(request).busy,
        rows=rows,
        asked=asked,
        candidates=candidates,
        prompts={each.id: each for each in prompts},
    )


def places(given: Mapping[str, str]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Tiers and FAILs of the form's fields ``place:<completion id>``; gaps between tiers close.

    Raises :class:`DataError` for a field that is empty or neither a tier from 1 to 9 nor ``fail``.
    """
    tiers: dict[int, list[str]] = {}
    fails = []
    for name, value in given.items():
        kind, _, id = name.partition(":")
        if kind != "place":
            continue
        if value == FAIL:
            fails.append(id)
        elif value in set("123456789"):
            tiers.setdefault(int(value), []).append(id)
        else:
            raise DataError("a completion has no place; give each one a place, or fail it")
    return tuple(tuple(tiers[n]) for n in sorted(tiers)), tuple(fails)


def standings(ranking: Ranking) -> dict[str, str]:
    """Each placed completion's place in words: 1, 2 =, FAIL."""
    sizes = Counter(levels(ranking).values())
    found = {}
    for id, level in levels(ranking).items():
        found[id] = "FAIL" if id in ranking.fails else f"{level + 1}{' =' if sizes[level] > 1 else ''}"
    return found


def _case_page(
    request: Request, at: Desk, session: Session, prompt_id: str, error: str = "", **more: Any
) -> Response:
    found = case(at.store, prompt_id, session.person.name, at.config.criterion)
    latest = studies(request).latest()
    agreed = latest.consensus.rankings.get(prompt_id) if latest and latest.consensus else None
    given = more.get("given", {})
    if not given and found.final and found.final.labeler == session.person.name:
        mine = standings(found.final)
        given = {f"place:{id}": FAIL if word == "FAIL" else word[0] for id, word in mine.items()}
        given["note"] = found.final.note
    return show(
        request,
        at,
        session,
        "case.html",
        "/owner/disagreements",
        400 if error else 200,
        error=error,
        case=found,
        columns=[(ranking, standings(ranking)) for ranking in found.rankings],
        agreed=standings(agreed) if agreed else None,
        can_be_gold={
            "final": found.final is not None and _orders(found.final),
            "consensus": agreed is not None and _orders(agreed),
        },
        given=given,
        letters="ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    )


def _answer(found: Case, source: str, latest: Study | None) -> Ranking:
    if source == "gold" and found.gold is not None:
        tiers = tuple(map(tuple, found.gold["tiers"]))
        return Ranking(found.prompt.id, "gold", tiers, tuple(found.gold["fails"]))
    if source == "final" and found.final is not None:
        return found.final
    agreed = latest.consensus.rankings.get(found.prompt.id) if latest and latest.consensus else None
    if source == "consensus" and agreed is not None:
        return replace(agreed, shown=())
    raise DataError(f"prompt {found.prompt.id!r} has no {source} ranking; adjudicate it first")


def _orders(ranking: Ranking) -> bool:
    return len(ranking.tiers) + bool(ranking.fails) >= 2


def _candidates(latest: Study | None) -> Sequence[str]:
    """Prompts that several labelers ranked and no two put both ways, most labelers first."""
    if latest is None or latest.consensus is None:
        return []
    disputed = {each.prompt_id for each in latest.disputes if each.pairs or each.fails}
    labelers = {
        prompt: min(score.n_labelers for score in scores.values())
        for prompt, scores in latest.consensus.scores.items()
        if prompt not in disputed and _orders(latest.consensus.rankings[prompt])
    }
    good = [prompt for prompt, n in labelers.items() if n >= LEAST_LABELERS]
    return sorted(good, key=lambda prompt: (-labelers[prompt], prompt))
