"""
Everything that can go wrong, as one tree of facts.

A branch says what the caller may conclude (refused, unknown, try later), a leaf names the fact. The HTTP
status hangs on the branch and the problem type is the leaf's name in kebab case, so a new error is a class
with fields and a docstring, and nothing else. See contract.md, section 4.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any, ClassVar


@dataclass(eq=False)
class ServiceError(Exception):
    """Something of ours went wrong."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    slug: ClassVar[str] = "internal"
    retry_after_seconds: ClassVar[float | None] = None

    def __init_subclass__(cls, *, slug: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.slug = slug or re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def facts(self) -> dict[str, Any]:
        """Return the error's own members, as they stand in its problem document."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def title(self) -> str:
        """Return the sentence that is true of every error of this class."""
        return (type(self).__doc__ or "").strip().split("\n")[0]

    def detail(self) -> str:
        """Return one sentence with this error's facts, for people."""
        facts = ", ".join(
            f"{name} {value}" for name, value in self.facts().items() if value not in (None, (), [])
        )
        return f"{self.title().rstrip('.')}: {facts}." if facts else self.title()

    def __str__(self) -> str:
        return self.detail()


# -- the caller's request is not one that can be carried out -------------------------------------------


@dataclass(eq=False)
class MalformedRequest(ServiceError):
    """The request is not well formed."""

    status = HTTPStatus.BAD_REQUEST
    problem: str

    def detail(self) -> str:
        """Return what is wrong."""
        return self.problem


@dataclass(eq=False)
class Unauthenticated(ServiceError):
    """A valid bearer token is needed."""

    status = HTTPStatus.UNAUTHORIZED
    problem: str

    def detail(self) -> str:
        """Return what is wrong with the one given."""
        return f"{self.title()} {self.problem}"


@dataclass(eq=False)
class Forbidden(ServiceError):
    """The token's roles do not allow this."""

    status = HTTPStatus.FORBIDDEN
    permission: str


@dataclass(eq=False)
class TenantRequired(Forbidden, slug=Forbidden.slug):
    """The token is of no tenant, and this is about one: send a token with a tenant claim."""


@dataclass(eq=False)
class NotFound(ServiceError):
    """There is no such thing."""

    status = HTTPStatus.NOT_FOUND
    what: str

    def detail(self) -> str:
        """Return what there is not."""
        return f"There is no {self.what}."


@dataclass(eq=False)
class MethodNotAllowed(ServiceError):
    """The resource does not answer to this method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    allowed: Sequence[str] = ()


@dataclass(eq=False)
class NotAcceptable(ServiceError):
    """The answer cannot be given in a form that the request accepts."""

    status = HTTPStatus.NOT_ACCEPTABLE
    accepted: str = ""


@dataclass(eq=False)
class PositionLost(ServiceError):
    """The position belongs to a history that no longer exists; read again without it."""

    status = HTTPStatus.GONE
    position: str = ""


@dataclass(eq=False)
class VersionMismatch(ServiceError):
    """The stream is not at the version that the request expects."""

    status = HTTPStatus.PRECONDITION_FAILED
    stream: str
    current_version: int


@dataclass(eq=False)
class ProjectionBehind(ServiceError):
    """The read side has not reached the asked position within the wait."""

    status = HTTPStatus.PRECONDITION_FAILED
    retry_after_seconds = 1
    position: str
    waited_seconds: float


@dataclass(eq=False)
class TooLarge(ServiceError):
    """The request's body is over the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    bytes_max: int


@dataclass(eq=False)
class UriTooLong(ServiceError):
    """The request's address is over the limit."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG
    bytes_max: int


@dataclass(eq=False)
class UnsupportedMediaType(ServiceError):
    """The body must be JSON, uncompressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    content_type: str = ""


@dataclass(eq=False)
class HeadersTooLarge(ServiceError):
    """The request's headers are over the limit."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    bytes_max: int


@dataclass(eq=False)
class Invalid(ServiceError):
    """The request is JSON, but not what this operation takes."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    errors: Sequence[Mapping[str, str]]
    """One `{"pointer": JSON pointer into the body, "message": …}` each."""

    def detail(self) -> str:
        """Return the first error in words."""
        first = self.errors[0] if self.errors else {"pointer": "", "message": self.title()}
        return f"{first['pointer'] or 'The body'}: {first['message']}"


@dataclass(eq=False)
class IdempotencyKeyReused(ServiceError):
    """The idempotency key was used for another request."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


@dataclass(eq=False)
class RateLimited(ServiceError):
    """Too many requests for now."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    retry_after_seconds = 1


# -- refused by a rule ---------------------------------------------------------------------------------


@dataclass(eq=False)
class Rejection(ServiceError):
    """A rule of the domain says no. Domains derive their own; the class's name is the rule's."""

    status = HTTPStatus.CONFLICT

    def facts(self) -> dict[str, Any]:
        """Return the rule's name beside the facts."""
        return {"rule": self.slug} | super().facts()


@dataclass(eq=False)
class ConcurrentUpdate(ServiceError):
    """Others kept changing the same streams, and the attempts are used up."""

    status = HTTPStatus.CONFLICT
    retry_after_seconds = 1
    stream: str
    attempts: int


# -- not now -------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Unavailable(ServiceError):
    """A part that is needed is away; nothing has happened."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 1


@dataclass(eq=False)
class Overloaded(Unavailable):
    """Too much is waiting already; nothing has happened."""

    waiting: int = 0


@dataclass(eq=False)
class StoreUnavailable(Unavailable):
    """The event store does not answer; nothing has happened."""


@dataclass(eq=False)
class TenantMoving(Unavailable):
    """The tenant is on its way to another partition of the event store; nothing has happened."""


@dataclass(eq=False)
class StreamsUnreadable(Unavailable):
    """This program cannot read an event of the stream, which a newer one may have written; nothing has happened."""

    stream: str
    event_type: str
    schema_version: int
    retry_after_seconds = 30


@dataclass(eq=False)
class OutcomeUnknown(ServiceError):
    """The connection was lost while committing: repeat the request with the same key to learn what happened."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    retry_after_seconds = 1


# -- what only programs meet ---------------------------------------------------------------------------


@dataclass(eq=False)
class EpochChanged(ServiceError):
    """The log does not have the commit that was known: its tail was lost, and what rests on it is void."""

    partition: int
    position: int


@dataclass(eq=False)
class UnknownEvent(ServiceError):
    """This program does not know the event's type or version yet."""

    type: str
    schema_version: int


@dataclass(eq=False)
class UnreadableEvent(UnknownEvent):
    """This program knows the event's type and version, but cannot read what is stored of it."""

    reason: str


@dataclass(eq=False)
class BadDefinition(ServiceError):
    """Something that a person wrote, such as a setting or a domain, is not as it must be."""

    what: str
    problem: str

    def detail(self) -> str:
        """Return what is wrong with what."""
        return f"{self.what}: {self.problem}"
