"""GET /v1/models: the only model."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .route import Asked, Route, Service, Whole, whole


class Model(Struct, frozen=True, kw_only=True):
    """The model this server runs. `created` is when the server started, in Unix seconds.
    `context_size` is in tokens. `parameters` counts the weights, `bytes` those of the file;
    `quantization` names the type of most weights. They are null while the file cannot be read."""

    id: str
    created: int
    context_size: int
    quantization: str | None
    parameters: int | None
    bytes: int | None
    object: Literal["model"] = "model"
    owned_by: str = "local"


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


def model_of(service: Service) -> Model:
    file = service.health().file
    return Model(
        id=service.chat.model,
        created=service.created,
        context_size=service.config.context_size,
        quantization=file.quantization if file else None,
        parameters=file.n_parameters if file else None,
        bytes=file.file_bytes if file else None,
    )


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
