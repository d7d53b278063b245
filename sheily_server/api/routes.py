"""The table of all routes, for the router, the document and the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..config import Config
from . import models, openapi, simple, status, tokens
from .anthropic import routes as anthropic
from .completions import routes as completions
from .dialect import Dialect
from .openai_chat import routes as openai_chat
from .openai_chat.dialect import OPENAI
from .page import routes as page
from .responses import routes as responses
from .route import Asked, Route, Service, Whole


def document(service: Service, asked: Asked) -> Whole:
    return Whole(msgspec.json.encode(openapi.document(served(service.config))))


ROUTES = (
    *status.ROUTES,
    *models.ROUTES,
    *openai_chat.ROUTES,
    *completions.ROUTES,
    *responses.ROUTES,
    *anthropic.ROUTES,
    *simple.ROUTES,
    *tokens.ROUTES,
    Route(
        id="openapi",
        method="GET",
        path="/openapi.json",
        summary="This document, in OpenAPI 3.1",
        handle=document,
    ),
    *page.ROUTES,
)


def served(config: Config, routes: Sequence[Route] = ROUTES) -> tuple[Route, ...]:
    """Returns the routes that a server with these settings has."""
    return tuple(route for route in routes if config.page == "on" or not route.page)


def open_paths(routes: Sequence[Route]) -> tuple[str, ...]:
    """Returns the paths that need no key: they tell whether the server is alive."""
    return tuple(route.path for route in routes if route.open)


_OTHER_DIALECTS = {
    path: route.dialect for route in ROUTES if route.dialect is not OPENAI for path in route.paths
}


def dialect_of(path: str) -> Dialect:
    """Returns the dialect in which a request for a path is answered, also where it has no route:
    that of the routes at or above it, or else OpenAI's."""
    for above, dialect in _OTHER_DIALECTS.items():
        if path == above or path.startswith(f"{above}/"):
            return dialect
    return OPENAI
