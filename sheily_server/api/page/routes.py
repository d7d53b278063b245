"""GET / and its icon. Both are open, and say nothing that /health does not say."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from ...version import package_version
from ..route import Asked, Route, Service, Whole
from ..status import State
from . import document
from .negotiation import preferences
from .words import FIXED, Language

HTML = "text/html"
VARY = "Accept, Accept-Language"
LINKS: Mapping[str, str] = {
    "health": "/health",
    "openapi": "/openapi.json",
    "models": "/v1/models",
    "chat": "/v1/chat/completions",
    "metrics": "/metrics",
}


class Root(Struct, frozen=True, kw_only=True):
    """What this server is, for programs; browsers get a page. `links` are paths. `state` is that
    of `/health`."""

    name: str
    version: str
    state: State
    model: str
    links: Mapping[str, str]


def root(service: Service, asked: Asked) -> Whole:
    state, model = service.health().state, service.chat.model
    if wants_page(asked.header("Accept")):
        page = document.render(
            language(asked.query.get("lang", ""), asked.header("Accept-Language")),
            origin=f"http://{asked.header('Host')}",
            model=model,
            state=state,
            needs_key=bool(service.config.api_keys),
        )
        headers = {**document.HEADERS, "Vary": VARY}
        return Whole(page, content_type=f"{HTML}; charset=utf-8", headers=headers)
    found = Root(name="SHEILY", version=package_version(), state=state, model=model, links=LINKS)
    return Whole(msgspec.json.encode(found), headers={"Vary": VARY})


def wants_page(accept: str) -> bool:
    """Whether a client names HTML, and does not name JSON before it."""
    kinds = [kind for kind in preferences(accept) if kind in (HTML, "application/json")]
    return kinds[:1] == [HTML]


def language(chosen: str, accepted: str) -> Language:
    """Returns the page's language: the one that its address has, or the reader's."""
    for name in (chosen, *preferences(accepted)):
        for known in FIXED:
            if name.lower().partition("-")[0] == known:
                return known
    return "en"


def icon(service: Service, asked: Asked) -> Whole:
    headers = {"Cache-Control": "max-age=86400", "X-Content-Type-Options": "nosniff"}
    return Whole(document.ICON, content_type="image/svg+xml", headers=headers)


ROUTES = (
    Route(
        id="root",
        method="GET",
        path="/",
        summary="What this server is; a page of its state and examples for browsers",
        handle=root,
        answer=Root,
        kinds=(HTML,),
        open=True,
        page=True,
    ),
    Route(
        id="icon",
        method="GET",
        path="/favicon.ico",
        summary="The icon of that page, as SVG",
        handle=icon,
        kinds=("image/svg+xml",),
        open=True,
        page=True,
    ),
)
