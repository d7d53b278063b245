"""GET /v1/models: the only model."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .route import Asked, Route, Service, Whole, whole


class Model(Struct, frozen=True):
    """The model this server runs; `created` is when the server started, in Unix seconds."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "local"


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


def model_of(service: Service) -> Model:
    return Model(service.chat.model, service.created)


def every(service: Service, asked: Asked) -> Whole:
    return whole(ModelList([model_of(service)]))


def one(service: Service, asked: Asked) -> Whole:
    service.chat.check_model(asked.arguments["id"])
    return whole(model_of(service))


ROUTES = (
    Route(
        id="listModels",
        method="GET",
        path="/v1/models",
        summary="The one model",
        handle=every,
        answer=ModelList,
    ),
    Route(
        id="getModel",
        method="GET",
        path="/v1/models/{id}",
        summary="A model by its id",
        handle=one,
        answer=Model,
        errors=(404,),
    ),
)
