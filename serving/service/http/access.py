"""Who may call: API keys, and the Host and Origin headers."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serving.service import errors
from serving.service.state.keys import ApiKeys

BEARER = HTTPBearer(auto_error=False, description="An API key")


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    owner: str
    """Id of the API key; "" for the service's own key, or without keys."""
    sees_all: bool
    """Whether jobs of other owners are shown."""
    may_write: bool
    max_waiting: int | None = None
    """Limit of the caller's waiting jobs; None: the queue's alone."""

    def sees(self, owner: str) -> bool:
        """Whether an object of this owner exists for the caller."""
        return self.sees_all or owner == self.owner


EVERYBODY = Caller("", sees_all=True, may_write=True)


@dataclass(frozen=True)
class Access:
    """Checks requests.

    Args:
        api_key: the service's own key, which may do everything; None without one.
        keys: further keys.
        open: while there is no key at all, everybody may do everything.
        allowed_hosts: accepted Host headers; "*": any.
    """

    api_key: str | None
    keys: ApiKeys
    open: bool
    allowed_hosts: tuple[str, ...]

    def needs_key(self) -> bool:
        """Whether requests need an API key."""
        return not self.open or self.keys.any()

    def caller(self, authorization: HTTPAuthorizationCredentials | None) -> Caller:
        """Return who sends this header. Raises Unauthorized."""
        if not self.needs_key():
            return EVERYBODY
        given = "" if authorization is None else authorization.credentials.strip()
        if self.api_key is not None and hmac.compare_digest(_digest(given), _digest(self.api_key)):
            return EVERYBODY
        key = self.keys.find(given) if given else None
        if key is None:
            raise errors.Unauthorized("missing or wrong API key: send the header Authorization: Bearer KEY")
        return Caller(key.id, sees_all=key.scope == "admin", may_write=key.scope != "read", max_waiting=key.max_waiting)

    def check_origin(self, host: str, origin: str | None) -> None:
        """Refuse requests that a foreign web page makes a browser send (CSRF, DNS rebinding).

        Raises:
            Forbidden: a host name that is not served here, or a page of another origin.
        """
        if "*" in self.allowed_hosts:
            return
        if _host_name(f"//{host}") not in self.allowed_hosts:
            raise errors.Forbidden("this host name is not served here")
        if origin is not None and _host_name(origin) not in self.allowed_hosts:
            raise errors.Forbidden("requests from web pages of other origins are refused")


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # such as an unclosed bracket
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def check_origin(
    request: Request, host: Annotated[str, Header()] = "", origin: Annotated[str | None, Header()] = None
) -> None:
    """A route's dependency: see `Access.check_origin`."""
    request.app.state.access.check_origin(host, origin)


def reader(
    request: Request, authorization: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None
) -> Caller:
    """A route's dependency: the caller, who may read."""
    caller: Caller = request.app.state.access.caller(authorization)
    return caller


def writer(
    request: Request, authorization: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None
) -> Caller:
    """A route's dependency: the caller, who may change things. Raises Forbidden for a key that only reads."""
    caller = reader(request, authorization)
    if not caller.may_write:
        raise errors.Forbidden("this API key may only read")
    return caller
