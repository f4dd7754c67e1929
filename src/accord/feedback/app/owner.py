"""The project's pages for owners and reviewers: progress, agreement, the table of labelers.

Pages of the consensus show the latest study with its time (``monitor_study``); nothing here computes one
while somebody waits. The other pages are in ``owner_review``, ``owner_people`` and ``owner_data``.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from accord.errors import DataError
from accord.feedback.app import owner_data, owner_people, owner_review
from accord.feedback.app.deps import TheDesk
from accord.feedback.app.owner_desk import PATIENCE, Owner, Viewer, back, known, show, studies
from accord.feedback.labeling import people
from accord.feedback.labeling.monitor import intake, progress
from accord.feedback.labeling.monitor_review import pause, resume
from accord.feedback.labeling.monitor_study import Study
from accord.stats.biases import HURRIED, MIN_RANKINGS

router = APIRouter(prefix="/owner", include_in_schema=False)
router.include_router(owner_review.router)
router.include_router(owner_people.router)
router.include_router(owner_data.router)


@router.get("")
def progress_page(request: Request, at: TheDesk, session: Viewer) -> Response:
    """How far the project is, and whether what comes in is stored."""
    now = at.clock()
    found = progress(at.store, at.config, now)
    return show(request, at, session, "progress.html", "/owner", progress=found, intake=intake(at.store, now))


@router.get("/agreement")
def agreement_page(request: Request, at: TheDesk, session: Viewer) -> Response:
    """How far labelers agree, beside chance, with intervals; what is undefined says why."""
    latest = studies(request).latest(PATIENCE)
    return show(
        request,
        at,
        session,
        "agreement.html",
        "/owner/agreement",
        study=latest,
        busy=studies(request).busy,
    )


@router.get("/labelers")
def labelers_page(request: Request, at: TheDesk, session: Viewer) -> Response:
    """One line a labeler, who needs a look first."""
    latest = studies(request).latest(PATIENCE)
    return show(
        request,
        at,
        session,
        "labelers.html",
        "/owner/labelers",
        study=latest,
        busy=studies(request).busy,
        axis=reliability_axis(latest),
        people={person.name: person for person in people.people(at.store)},
    )


@router.get("/labeler")
def labeler_page(
    request: Request, at: TheDesk, session: Viewer, name: Annotated[str, Query(max_length=200)]
) -> Response:
    """One labeler's figures, habits and remarks."""
    latest = studies(request).latest(PATIENCE)
    line = latest.line(name) if latest else None
    person = next((each for each in people.people(at.store) if each.name == name), None)
    if line is None and person is None:
        raise HTTPException(404, f"there is no labeler {name!r:.80}; the table of labelers lists them")
    return show(
        request,
        at,
        session,
        "labeler.html",
        "/owner/labelers",
        study=latest,
        busy=studies(request).busy,
        line=line,
        person=person,
        labeler=name,
        axis=reliability_axis(latest),
        remarks=[remark for remark in at.store.remarks() if remark.labeler == name][::-1],
        hurried=HURRIED,
        least=MIN_RANKINGS,
    )


def reliability_axis(latest: Study | None) -> tuple[float, float]:
    """Where the strips of reliability begin and end: all intervals, and zero, stand on them."""
    found = [line.row.reliability for line in latest.labelers] if latest else []
    bounds = [bound for each in found if each and known(each) for bound in (each.low, each.high)]
    return min([-1.0, *bounds]), max([1.0, *bounds])


@router.post("/labeler/pause")
def pause_labeler(
    at: TheDesk,
    session: Owner,
    name: Annotated[str, Form(max_length=200)],
    again: Annotated[bool, Form()] = False,
) -> Response:
    """Pause a person; with ``again`` their prompts are asked of others too."""
    if name == session.person.name:
        raise DataError("you cannot pause yourself; ask another owner")
    _, asked = pause(at.store, name, again)
    return back("/owner/labeler", "again" if asked else "paused", name=name)


@router.post("/labeler/resume")
def resume_labeler(at: TheDesk, session: Owner, name: Annotated[str, Form(max_length=200)]) -> Response:
    """End a person's pause."""
    resume(at.store, name)
    return back("/owner/labeler", "resumed", name=name)
