"""What the app answers when something does not go: a page for a reader, JSON for a program."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from accord.errors import AccordError, StoreError
from accord.feedback.app.deps import Desk, SignInNeeded, login_address

CORRECT = "correct the request and send it again"


def handle_errors(app: FastAPI) -> None:
    """Turn errors into answers; they are caught at this edge only."""
    app.add_exception_handler(SignInNeeded, _sign_in)
    app.add_exception_handler(AccordError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UnicodeEncodeError, _not_text)


def problem(message: str) -> dict[str, str]:
    """accord's messages say what happened; then what to do."""
    error, _, advice = message.partition("; ")
    return {"error": error, "what_to_do": advice or CORRECT}


def wants_json(request: Request) -> bool:
    """Whether a program or a page's script asks, and not a reader who waits for a page."""
    if request.url.path.startswith("/api/v1/"):
        return True
    given = request.headers.get("content-type", "").startswith("application/json")
    return given or "text/html" not in request.headers.get("accept", "")


def _answer(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    if wants_json(request):
        return JSONResponse(problem(message), status, headers)
    at: Desk = request.app.state.desk
    page = at.page(request, "error.html", status, **problem(message))
    page.headers.update(headers or {})
    return page


def _sign_in(request: Request, _: Exception) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    if wants_json(request):
        return JSONResponse(problem("nobody is signed in; sign in at /login"), 401)
    return RedirectResponse(login_address(request), 303)


def _refused(request: Request, error: Exception) -> Response:
    # the database out of reach is ours to mend, and worth another try; the rest is the request's fault
    cause = error.__cause__
    if isinstance(cause, exc.DataError):  # a text or number that this database cannot hold, such as NUL
        return _answer(request, 400, "the request holds a character or number that cannot be stored")
    if isinstance(error, StoreError) and cause is not None:
        return _answer(request, 503, str(error), {"Retry-After": "5"})
    return _answer(request, 400, str(error))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = f"there is no page {request.url.path}; start again at /"
    return _answer(request, error.status_code, message, dict(error.headers or {}))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    value = ascii(first.get("input"))[:200]
    if not wants_json(request):
        return _answer(request, 422, f"{where}: {first['msg']} (got {value}); go back and correct it")
    return JSONResponse({"error": f"{where}: {first['msg']}", "value": value, "what_to_do": CORRECT}, 422)


def _not_text(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnicodeEncodeError)
    return _answer(
        request, 400, f"a text holds half a character (a lone surrogate) at {error.start}; repair it"
    )
