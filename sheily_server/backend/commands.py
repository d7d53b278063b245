"""Builds the engine's commands from settings and requests, and a log line about its answer."""

from __future__ import annotations

import os

from ..config import Config
from ..errors import EngineFailedError, InvalidRequestError
from ..protocol.channel import encode_command
from ..protocol.commands import Detokenize, Start, Submit, Tokenize
from ..protocol.events import Ready
from ..protocol.frames import ProtocolError


def frame_of(command: Submit | Tokenize | Detokenize) -> bytes:
    """Encodes a command for the engine. Raises ServiceError when it cannot be sent."""
    try:
        return encode_command(command)
    except UnicodeEncodeError:
        raise InvalidRequestError(
            "The request has a text with an unpaired surrogate, half a character."
        ) from None
    except OverflowError:
        raise InvalidRequestError("The request has a number that is too large.") from None
    except ProtocolError:
        raise InvalidRequestError("The request is too large for the engine.") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise EngineFailedError(f"The request cannot be sent to the engine: {error}.") from None


def start_of(config: Config) -> Start:
    """Returns the first command."""
    return Start(
        model_path=os.fspath(config.model_path),
        context_size=config.context_size,
        parallel=config.parallel,
        kv_tokens=config.kv_cells,
        threads=config.threads,
        log_level=config.log_level,
        chunk=config.chunk,
        kernel=config.kernel,
        kv_type=config.kv_type,
        tuned=config.tuned,
        speculation=config.speculation == "on",
        stream_slowdown=config.stream_slowdown,
        cache_dir="" if config.cache_dir is None else os.fspath(config.cache_dir),
        cache_gb=config.cache_gb,
    )


def ready_lines(config: Config, engine: Ready) -> list[str]:
    """Returns what is logged of an engine that has loaded its model."""
    loaded = (
        f"ready: {config.model_path.name}, {engine.model_bytes / 1e9:.2f} GB, "
        f"{engine.prompt_format.name} prompts; {engine.n_threads} threads, chunks of "
        f"{engine.chunk}, kernel {engine.kernel or 'off'}"
    )
    return [loaded, pool_line(config, engine)]


def ready_warnings(config: Config, engine: Ready) -> list[str]:
    if config.context_size <= engine.n_ctx_train:
        return []
    return [
        f"LLM_CONTEXT_SIZE is {config.context_size}, but the model was trained for "
        f"{engine.n_ctx_train} tokens: longer conversations may become nonsense"
    ]


def pool_line(config: Config, engine: Ready) -> str:
    """Describes what the KV cache has room for and which settings change that."""
    n, size, gb = config.kv_cells // config.context_size, config.context_size, engine.kv_bytes / 1e9
    line = (
        f"KV cache: {config.kv_cells} tokens in {engine.kv_type}, {gb:.2f} GB, for up to "
        f"{config.parallel} answers at once, {n} of them with all of {size} tokens; LLM_KV_TOKENS "
        "changes its size, LLM_PARALLEL the number, LLM_CONTEXT_SIZE the length"
    )
    return line + (", LLM_KV_TYPE=q8_0 halves the memory" if engine.kv_type == "f16" else "")
