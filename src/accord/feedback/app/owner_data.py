"""Taking the data out, and telling other programs what happens. For owners."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response, StreamingResponse

from accord.errors import DataError
from accord.feedback.app.api import lines
from accord.feedback.app.deps import Desk, TheDesk
from accord.feedback.app.owner_desk import Owner, back, show
from accord.feedback.formats.gather import Format
from accord.feedback.formats.write import write_stored
from accord.feedback.labeling import webhooks
from accord.store.lineage import Status

router = APIRouter()
LATEST = 30
FORMATS = {
    Format.TRL_PREFERENCE: "pairs: prompt, chosen, rejected (TRL's reward and DPO trainers)",
    Format.TRL_IMPLICIT: "pairs: chosen and rejected that begin with the prompt (TRL)",
    Format.TRL_UNPAIRED: "thumbs and FAILs: prompt, completion, label (TRL's KTO trainer)",
    Format.OPENRLHF: "pairs: input, chosen, rejected (OpenRLHF)",
    Format.HH: "pairs: Human/Assistant transcripts (Anthropic HH)",
    Format.RANKINGS: "one labeler's ranking a row, ties and FAILs kept",
}


@router.get("/data")
def data_page(request: Request, at: TheDesk, session: Owner) -> Response:
    """What is stored, how to take it out, and the webhooks."""
    return _data_page(request, at, session)


def _data_page(request: Request, at: Desk, session: Owner, **more: Any) -> Response:
    agreed = at.store.runs("agree", Status.DONE)
    hooks = webhooks.webhooks(at.store)
    return show(
        request,
        at,
        session,
        "data.html",
        "/owner/data",
        counts=at.store.counts(),
        formats=FORMATS,
        agreed=agreed[-1] if agreed else None,
        hooks=hooks,
        urls={hook.id: urlsplit(hook.url).netloc for hook in hooks},
        events=webhooks.EVENTS,
        deliveries=webhooks.deliveries(at.store, limit=LATEST),
        **more,
    )


@router.get("/export/events.jsonl")
def export_events(at: TheDesk, session: Owner) -> Response:
    """Every fact, one JSON object a line, streamed; ``accord import`` takes it back to the bit."""
    headers = {"Content-Disposition": 'attachment; filename="events.jsonl"'}
    return StreamingResponse(lines(at.store), media_type="application/jsonl", headers=headers)


@router.get("/export")
def export(
    at: TheDesk,
    session: Owner,
    format: Annotated[str, Query(max_length=40)],
    ties: Annotated[bool, Query()] = False,
) -> Response:
    """One file of a format that trainers read."""
    if format not in FORMATS:
        raise DataError(f"there is no export {format!r}; the formats are {', '.join(FORMATS)}")
    folder = tempfile.TemporaryDirectory(prefix="accord-export-")
    try:
        path = Path(folder.name) / f"{format}.jsonl"
        written = write_stored(at.store, path, format, ties="keep" if ties else "drop", on_error="skip")
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        written.path,
        filename=written.path.name,
        media_type="application/jsonl",
        background=BackgroundTask(folder.cleanup),
    )


# -- webhooks ----------------------------------------------------------------------------------


@router.post("/webhooks")
def add_webhook(
    request: Request,
    at: TheDesk,
    session: Owner,
    url: Annotated[str, Form(max_length=2000)],
    events: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Tell an address of events, and show the secret that signs, this once."""
    try:
        _, secret = webhooks.add_webhook(at.store, url.strip(), events or [], at.clock())
    except DataError as error:
        return _data_page(request, at, session, error=str(error), url=url)
    return _data_page(request, at, session, secret=secret, secret_for=url.strip())


@router.post("/webhooks/active")
def set_active(
    at: TheDesk,
    session: Owner,
    webhook: Annotated[str, Form(max_length=100)],
    active: Annotated[bool, Form()],
) -> Response:
    """Stop or resume a webhook."""
    webhooks.set_active(at.store, webhook, active)
    return back("/owner/data", "webhook")
