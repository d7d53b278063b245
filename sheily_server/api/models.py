"""GET /v1/models: the only model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from ..backend.health import Health
from ..backend.sampling import Source
from .route import Asked, Route, Service, Whole, whole


class SamplingDefaults(Struct, frozen=True, kw_only=True):
    """What an answer is sampled with where its request says nothing. `sources` says of each value
    where it comes from: a `setting`, the model's `file`, what its `makers` published, or OpenAI's
    default. `unused` are keys of the file that this server does not follow."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    sources: Mapping[str, Source]
    unused: tuple[str, ...]


class Model(Struct, frozen=True, kw_only=True):
    """The model this server runs. `created` is when the server started, in Unix seconds.
    `context_size` is in tokens. `parameters` counts the weights, `bytes` those of the file;
    `quantization` names the type of most weights. They and `sampling` are null while the file
    cannot be read."""

    id: str
    created: int
    context_size: int
    quantization: str | None
    parameters: int | None
    bytes: int | None
    sampling: SamplingDefaults | None
    object: Literal["model"] = "model"
    owned_by: str = "local"


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


def model_of(service: Service) -> Model:
    health = service.health()
    file = health.file
    return Model(
        id=service.chat.model,
        created=service.created,
        context_size=service.config.context_size,
        quantization=file.quantization if file else None,
        parameters=file.n_parameters if file else None,
        bytes=file.file_bytes if file else None,
        sampling=sampling_of(health),
    )


def sampling_of(health: Health) -> SamplingDefaults | None:
    """Returns the defaults; None while the model's file cannot be read."""
    found = health.defaults
    if health.file is None or found is None:
        return None
    return SamplingDefaults(**found.values, sources=found.sources, unused=found.unused)


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
