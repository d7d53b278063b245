"""The table of all routes, for the router, the document and the metrics."""

from __future__ import annotations

import msgspec

from . import models, openapi, simple, status, tokens
from .completions import routes as completions
from .openai_chat import routes as openai_chat
from .responses import routes as responses
from .route import Asked, Route, Service, Whole


def document(service: Service, asked: Asked) -> Whole:
    return Whole(msgspec.json.encode(openapi.document(ROUTES)))


ROUTES = (
    *status.ROUTES,
    *models.ROUTES,
    *openai_chat.ROUTES,
    *completions.ROUTES,
    *responses.ROUTES,
    *simple.ROUTES,
    *tokens.ROUTES,
    Route(
        id="openapi",
        method="GET",
        path="/openapi.json",
        summary="This document, in OpenAPI 3.1",
        handle=document,
    ),
)

OPEN_PATHS = tuple(route.path for route in ROUTES if route.open)
"""Paths that need no key: they tell whether the server is alive."""
