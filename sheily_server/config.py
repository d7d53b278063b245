"""The server's settings: read once from the environment and the command line, checked, frozen."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from msgspec import structs

from .hosts import Network, is_loopback, parse_allowed, parse_network
from .keys import KeyFile, parse_keys, read_keys
from .logs import LogFormat
from .tuned import KERNEL_PATTERN, MOST_CHUNK, MOST_THREADS, KVType, Tuned, read
from .version import ShowVersion

PROGRAM = "python -m sheily_server"
DEFAULT_MODEL_PATH = "models/Llama-3.2-3B-Instruct-Q8_0.gguf"
LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)
LOG_LEVELS = ("debug", "info", "warning", "error")
KV_TYPES: tuple[str, ...] = get_args(KVType)
LEAST_HANG_S = 2.0
"""Signs of life come every half second, or later on a busy machine."""

FULL = 4
"""Contexts that the KV cache has room for if nothing is said."""
STORE_MB, STORE_MB_IN_MEMORY = 1024, 64
_MOST_NAMED = 5

Switch = Literal["on", "off"]
SamplingSource = Literal["model", "openai"]
CacheScope = Literal["all", "key"]
SWITCH: tuple[str, ...] = get_args(Switch)


N = TypeVar("N", int, float)


class ConfigError(ValueError):
    """A setting that cannot be used. The message is one sentence that names it."""


def _setting(default: Any, parse: Callable[[str], Any], help: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse, "help": help})


def _integer(least: int, most: int) -> Callable[[str], int]:
    return _bounded(int, "a whole number", "d", least, most)


def _number(least: float, most: float) -> Callable[[str], float]:
    return _bounded(float, "a number", "g", least, most)


def _bounded(
    convert: Callable[[str], N], what: str, form: str, least: N, most: N
) -> Callable[[str], N]:
    """Returns a parser; `form` is how `format` writes its numbers."""

    def parse(text: str) -> N:
        try:
            value = convert(text)
        except ValueError:
            raise ValueError(f"is {text!r}, not {what}") from None
        if not least <= value <= most:
            raise ValueError(f"is {value:{form}}, not in {least:{form}} to {most:{form}}")
        return value

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"is {text!r}, not a number of seconds") from None
    if not (math.isfinite(value) and 0 < value <= 86_400):
        raise ValueError(f"is {value:g}, not more than 0 and at most 86400 seconds")
    return value


def _hang_timeout(text: str) -> float:
    value = _seconds(text)
    if value < LEAST_HANG_S:
        raise ValueError(
            f"is {value:g}, less than {LEAST_HANG_S:g} seconds: the engine's signs of "
            "life are half a second apart"
        )
    return value


def _model_path(text: str) -> Path:
    path = _path(text, "a GGUF file")
    if path.is_dir():
        inside = sorted(found.name for found in path.glob("*.gguf"))[:_MOST_NAMED]
        hint = f"; there is {', '.join(inside)} in it" if inside else ""
        raise ValueError(f"is {str(path)!r}, a folder, not a file{hint}")
    return path


def _tuned(text: str) -> Tuned:
    return read(_path(text, "a file of sheily_native.tune"))


def _key_file(text: str) -> KeyFile:
    return read_keys(_path(text, "a file with API keys"))


def _store(text: str) -> Path:
    return _path(text, "a file for stored responses")


def _cache_dir(text: str) -> Path:
    return _path(text, "a folder for the prefix cache")


def _path(text: str, what: str) -> Path:
    if not text.strip():
        raise ValueError(f"is empty: it must be the path of {what}")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"is {text!r}, in the home folder of a user who does not exist") from None


def _host(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: it must be an address, such as 127.0.0.1")
    text = text.strip()
    if "://" in text:
        raise ValueError(f"is {text!r}, a URL: it must be an address, such as 127.0.0.1")
    found = parse_allowed(text)
    if found is not None and found.port is not None:
        raise ValueError(f"is {text!r}, with a port, which {variable('port')} is for")
    return text.removeprefix("[").removesuffix("]")


@dataclass(frozen=True, slots=True)
class OneOf:
    """Reads one of several words."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ValueError(f"is {text!r}, not one of {', '.join(self.words)}")
        return text.lower()


def _kernel(text: str) -> str:
    """Checks only the form: the engine's native code knows which kernels there are."""
    if not re.match(KERNEL_PATTERN, text.lower()):
        raise ValueError(f"is {text!r}, not auto, off or the name of a kernel")
    return text.lower()


def _hosts(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name != "*" and parse_allowed(name) is None:
            raise ValueError(
                f"has {name!r}, not a name such as llm.example.org, a name with a port such as "
                "vm:8222, nor *"
            )
    return names


def _networks(text: str) -> tuple[Network, ...]:
    found = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        network = parse_network(part)
        if network is None:
            raise ValueError(
                f"has {part!r}, not an address such as 10.0.0.1 nor a network such as 10.0.0.0/8"
            )
        found.append(network)
    return tuple(found)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(name.isprintable() and len(name) <= 256 for name in names):
        raise ValueError("has a name that is not 1 to 256 printable characters")
    return names


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(part.strip()) for part in text.split(",") if part.strip())


def _origin(text: str) -> str:
    if text != "*" and not _is_origin(text):
        raise ValueError(f"has {text!r}, not an origin such as http://localhost:3000, nor *")
    return text


def _is_origin(text: str) -> bool:
    """Whether a browser could send this: scheme, lower-case host, port unless it is the default."""
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return False
    name = f"[{host}]" if ":" in host else host
    usual_port = 80 if parts.scheme == "http" else 443
    suffix = "" if port in (None, usual_port) else f":{port}"
    known = parts.scheme in ("http", "https")
    return known and bool(host) and text == f"{parts.scheme}://{name}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings. Sizes are in tokens, times in seconds.

    Each field is set by the environment variable `LLM_` + its name in capitals, or the flag `--` +
    its name with dashes; the flag wins. What neither sets is taken from `tuned`, which then keeps
    only the settings that were taken.
    """

    model_path: Path = _setting(  # noqa: RUF009 - it returns a dataclass field
        Path(DEFAULT_MODEL_PATH),
        _model_path,
        f"the GGUF file (default: {DEFAULT_MODEL_PATH} under the current folder)",
    )
    model_aliases: tuple[str, ...] = _setting(
        (), _names, "further names that requests may call the model, comma-separated, or * for any"
    )
    context_size: int = _setting(
        4096, _integer(64, 1_048_576), "tokens one conversation may use, prompt and answer"
    )
    max_tokens: int = _setting(
        2048, _integer(1, 1_048_576), "default and cap of an answer's length in tokens"
    )
    max_history: int | None = _setting(
        None,
        _integer(1, 100_000),
        "most messages kept of a conversation, system messages aside; default: 10 on /chat, all "
        "of them on the other routes",
    )
    sampling: SamplingSource = _setting(  # noqa: RUF009
        "model",
        OneOf(get_args(SamplingSource)),
        "whose sampling a request follows that says nothing of it: that of the model's makers, or "
        "openai for temperature 1 and top_p 1",
    )
    temperature: float | None = _setting(
        None, _number(0, 2), "temperature of requests that say none; default: as sampling has it"
    )
    top_p: float | None = _setting(None, _number(0, 1), "the same for top_p")
    min_p: float | None = _setting(None, _number(0, 1), "the same for min_p")
    host: str = _setting("127.0.0.1", _host, "address to listen on")
    port: int = _setting(8005, _integer(0, 65_535), "port to listen on; 0 takes a free one")
    parallel: int = _setting(16, _integer(1, 64), "most answers that run at the same time")
    kv_tokens: int | None = _setting(
        None,
        _integer(64, 67_108_864),
        f"tokens that the KV cache has room for; default: up to {FULL} contexts",
    )
    # Each takes a thread and a connection; web/server.py allows 512 connections.
    queue: int = _setting(64, _integer(0, 400), "requests that may wait beside those")
    background: int = _setting(
        16,
        _integer(0, 64),
        "responses that may be made in the background at the same time; 0: none",
    )
    threads: int = _setting(
        0, _integer(0, MOST_THREADS), "compute threads; 0: the CPUs this process may use"
    )
    chunk: int = _setting(128, _integer(1, MOST_CHUNK), "most prompt tokens computed in one step")
    stream_slowdown: float = _setting(
        2.0,
        _number(1.1, 100),
        "times as long as usual that a stream may wait for its next token beside a prompt",
    )
    kernel: str = _setting(
        "auto", _kernel, "kernel for Q8_0 weights: auto, off for llama.cpp's own, or a name"
    )
    kv_type: KVType = _setting(  # noqa: RUF009
        "f16", OneOf(KV_TYPES), f"type of the KV cache's numbers: {' or '.join(KV_TYPES)}"
    )
    strict: Switch = _setting(  # noqa: RUF009
        "off", OneOf(SWITCH), "refuse requests with unknown fields and fields without effect"
    )
    speculation: Switch = _setting(  # noqa: RUF009
        "on", OneOf(SWITCH), "guess several tokens of text that repeats: on or off"
    )
    tuned: Tuned | None = _setting(  # noqa: RUF009
        None,
        _tuned,
        "a file of sheily_native.tune, which says what is not said of threads, chunk, kernel and "
        "kv_type",
    )
    timeout: float = _setting(
        280.0, _seconds, "seconds that a request may take in all: waiting, prompt and answer"
    )
    background_timeout: float = _setting(
        3600.0, _seconds, "seconds that a response in the background may take in all"
    )
    hang_timeout: float = _setting(
        20.0, _hang_timeout, "seconds without a sign of life after which the engine is killed"
    )
    drain_timeout: float = _setting(
        30.0, _seconds, "seconds that requests may take to end when the server is told to stop"
    )
    idle_unload: float = _setting(
        0.0,
        _number(0, 604_800),
        "seconds without a request after which the model is unloaded, until the next one; 0: never",
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        _origins,
        "origins of browser pages that may call, comma-separated, or *; default: loopback pages",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        _hosts,
        "host names that callers may use beside the loopback ones and, where others can reach the "
        "server, this machine's own, comma-separated, each with or without a port, or *",
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        (),
        _networks,
        "addresses and networks of proxies whose X-Forwarded-For says who calls, comma-separated",
    )
    api_key: tuple[str, ...] = _setting(
        (),
        parse_keys,
        "API keys, comma-separated: callers need one; other users see a flag, but not the variable",
        secret=True,
    )
    api_key_file: KeyFile | None = _setting(  # noqa: RUF009
        None, _key_file, "a file of API keys, one on each line"
    )
    store: Path | None = _setting(  # noqa: RUF009
        None, _store, "a file that keeps responses for later requests; default: in memory"
    )
    store_days: int = _setting(30, _integer(1, 3650), "days that a response is kept")
    store_mb: int | None = _setting(
        None,
        _integer(16, 1_048_576),
        f"most MiB of stored responses; default: {STORE_MB}, in memory {STORE_MB_IN_MEMORY}",
    )
    cache_dir: Path | None = _setting(  # noqa: RUF009
        None,
        _cache_dir,
        "a folder that keeps the prefix cache, which holds conversations; default: in memory alone",
    )
    cache_gb: float = _setting(8.0, _number(0.01, 65_536), "most GiB of that folder")
    cache_scope: CacheScope | None = _setting(  # noqa: RUF009
        None,
        OneOf(get_args(CacheScope)),
        "who shares what prompts have in common: all callers, or those with the same key; default: "
        "key where several are set",
    )
    log_format: LogFormat = _setting(  # noqa: RUF009
        "text", OneOf(LOG_FORMATS), "lines of the log: text, or json for one object a line"
    )
    page: Switch = _setting(  # noqa: RUF009
        "on", OneOf(SWITCH), "the page at / that shows the server in a browser: on or off"
    )
    log_level: str = _setting("info", OneOf(LOG_LEVELS), f"one of {', '.join(LOG_LEVELS)}")

    @property
    def api_keys(self) -> tuple[str, ...]:
        """All keys, from both settings. Without any, callers need none."""
        return self.api_key + (self.api_key_file.keys if self.api_key_file else ())

    @property
    def kv_cells(self) -> int:
        """Tokens that the KV cache has room for: as said, but one context at least."""
        if self.kv_tokens is None:
            return min(FULL, self.parallel) * self.context_size
        return max(self.kv_tokens, self.context_size)

    @property
    def caches_by_key(self) -> bool:
        """Whether callers with different keys share nothing in the prefix cache."""
        if self.cache_scope is not None:
            return self.cache_scope == "key"
        return len(self.api_keys) > 1

    @property
    def store_limit_mb(self) -> int:
        """The bound of the store in MiB, in a file or in memory."""
        if self.store_mb is not None:
            return self.store_mb
        return STORE_MB if self.store else STORE_MB_IN_MEMORY


def variable(name: str) -> str:
    """Returns the environment variable of a setting."""
    return f"LLM_{name.upper()}"


def flag(name: str) -> str:
    """Returns the command-line flag of a setting."""
    return f"--{name.replace('_', '-')}"


def parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """Returns the parser of the server's flags, in whose usage `program` stands."""
    found = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="A local, OpenAI-compatible server for one GGUF model.",
        epilog="Every flag is an environment variable too, such as LLM_MODEL_PATH; the flag wins. "
        "docs/configuration.md says more of each, and README.md how to begin.",
    )
    found.add_argument("--version", action=ShowVersion)
    for setting in fields(Config):
        own_words = setting.default in ((), None) or setting.name == "model_path"
        default = "" if own_words else setting.default
        suffix = f" (default: {default})" if default != "" else ""
        found.add_argument(
            flag(setting.name), metavar="VALUE", help=setting.metadata["help"] + suffix
        )
    return found


def load(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    program: str = PROGRAM,
) -> Config:
    """Reads the settings of this run. Raises ConfigError; exits for `--help`, `--version` and
    unknown flags."""
    environment = os.environ if environment is None else environment
    flags = vars(parser(program).parse_args(arguments))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in fields(Config):
        source, text = flag(setting.name), flags[setting.name]
        if text is None:
            source, text = variable(setting.name), environment.get(variable(setting.name))
        if text is not None:
            try:
                values[setting.name] = setting.metadata["parse"](text)
                sources[setting.name] = source
            except ValueError as error:
                raise ConfigError(f"{source} {error}.") from None
    values.setdefault("model_path", Path(DEFAULT_MODEL_PATH).absolute())
    if "tuned" in values:
        values |= _from_tuned(values["tuned"], values)
    config = Config(**values)
    if config.max_tokens >= config.context_size:
        if "max_tokens" in values:
            raise ConfigError(
                f"{sources['max_tokens']} is {config.max_tokens}, which leaves no room for a "
                f"prompt in {sources.get('context_size', variable('context_size'))}, which is "
                f"{config.context_size}."
            )
        values["max_tokens"] = config.context_size // 2
        config = Config(**values)
    return config


def _from_tuned(tuned: Tuned, said: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the file's settings that are not set explicitly, and `tuned` with only these."""
    taken = {name: value for name, value in tuned.settings.items() if name not in said}
    otherwise = {
        setting.name: setting.default for setting in fields(Config) if setting.name in taken
    }
    return {**taken, "tuned": structs.replace(tuned, settings=taken, otherwise=otherwise)}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each LLM_* variable that is no setting, so that typos are noticed."""
    known = [variable(setting.name) for setting in fields(Config)]
    sentences = []
    for name in sorted(environment):
        if name.startswith("LLM_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            sentences.append(f"{name} is not a setting of this server and has no effect{hint}")
    return sentences


def open_doors(config: Config) -> list[str]:
    """Returns a sentence for each way in which the server is open to others."""
    sentences = []
    if not config.api_keys and not is_loopback(config.host):
        sentences.append(
            f"{variable('host')} is {config.host} and no API key is set: whoever can reach this "
            f"machine can use the model; {variable('api_key_file')} would ask them for a key."
        )
    if not config.api_keys and "*" in config.allowed_hosts:
        sentences.append(
            f"{variable('allowed_hosts')} is * and no API key is set: any web page that a browser "
            "on this machine opens can use the model."
        )
    if config.api_key_file is not None and config.api_key_file.open_to_others:
        sentences.append(
            f"{config.api_key_file.path} has API keys and may be read by every user of this "
            "machine: chmod 600 would end that."
        )
    return sentences
