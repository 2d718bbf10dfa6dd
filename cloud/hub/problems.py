"""What the hub says when it cannot answer: RFC 9457 problem documents, one shape for every endpoint.

Problem
├── BadQuery       400: a parameter is wrong; says which, what was found and what is allowed
├── NoToken        401: no token, or one that is unknown, expired or revoked
├── NotAllowed     403: the rule of cloud.hub.access says no; names whom to ask
├── NotThere       404: no such thing, or none that this reader may know of
├── TooMuch        413: the answer would be larger than the hub gives at once; says how to ask for less
├── Busy           429: too many requests at once; Retry-After
└── Away           503: the database does not answer; Retry-After
"""

from typing import Any


class Problem(Exception):
    """The root. `status` is HTTP's; `title` names the kind; the message says what happened here."""

    status = 500
    title = "Problem"

    def __init__(self, detail: str, *, retry_after_s: float | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.more = more

    def document(self) -> dict[str, Any]:
        """The body, `application/problem+json`."""
        return {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail, **self.more}


class BadQuery(Problem):
    """A parameter is wrong."""

    status = 400
    title = "Bad query"

    def __init__(self, parameter: str, allowed: str, found: object = None) -> None:
        tail = "" if found is None else f"; found {str(found)[:80]!r}"
        super().__init__(f"{parameter}: expected {allowed}{tail}", parameter=parameter, allowed=allowed)


class NoToken(Problem):
    """Nobody known asks."""

    status = 401
    title = "Token needed"


class NotAllowed(Problem):
    """The rule says no."""

    status = 403
    title = "Not allowed"


class NotThere(Problem):
    """No such thing."""

    status = 404
    title = "Not found"


class TooMuch(Problem):
    """More than the hub gives at once."""

    status = 413
    title = "Too much at once"


class Busy(Problem):
    """Too many requests at once."""

    status = 429
    title = "Busy"


class Away(Problem):
    """The database does not answer."""

    status = 503
    title = "Database away"
