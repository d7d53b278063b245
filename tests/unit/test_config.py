"""Settings from the environment and the command line: defaults, which wins, what is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sheily_server.config import (
    Config,
    ConfigError,
    flag,
    load,
    open_doors,
    unknown_variables,
    variable,
)
from sheily_server.keys import read_keys
from sheily_server.tuned import read
from tests.support import tuned_files

KEYS = Path(__file__).with_name("api_keys.txt")

# Every setting: a text, and the value it means. None of them is the default.
TUNED_DEFAULTS: dict[str, int | str] = {
    "threads": 0,
    "chunk": 128,
    "kernel": "auto",
    "kv_type": "f16",
}
EXAMPLES = {
    "model_path": ("/models/a.gguf", Path("/models/a.gguf")),
    "model_aliases": ("gpt-4o, llama", ("gpt-4o", "llama")),
    "context_size": ("8192", 8192),
    "max_tokens": ("100", 100),
    "max_history": ("6", 6),
    "sampling": ("OpenAI", "openai"),
    "temperature": ("0", 0.0),
    "top_p": ("0.95", 0.95),
    "min_p": ("5e-2", 0.05),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("9000", 9000),
    "parallel": ("2", 2),
    "kv_tokens": ("8192", 8192),
    "queue": ("0", 0),
    "threads": ("3", 3),
    "chunk": ("256", 256),
    "stream_slowdown": ("1.5", 1.5),
    "kernel": ("AVX2", "avx2"),
    "kv_type": ("q8_0", "q8_0"),
    "tuned": (
        str(tuned_files.EXAMPLE),
        structs.replace(read(tuned_files.EXAMPLE), otherwise=TUNED_DEFAULTS),
    ),
    "timeout": ("12.5", 12.5),
    "background": ("3", 3),
    "background_timeout": ("12.5", 12.5),
    "cors_origins": ("http://localhost:3000, *", ("http://localhost:3000", "*")),
    "hang_timeout": ("7.5", 7.5),
    "drain_timeout": ("1e3", 1000.0),
    "idle_unload": ("900", 900.0),
    "allowed_hosts": (
        "llm, Example.org:80,[2001:db8::1]",
        ("llm", "Example.org:80", "[2001:db8::1]"),
    ),
    "trusted_proxies": (
        "10.0.0.1, fd00::/8",
        (ip_network("10.0.0.1"), ip_network("fd00::/8")),
    ),
    "api_key": ("one-key, another,", ("one-key", "another")),
    "api_key_file": (str(KEYS), read_keys(KEYS)),
    "strict": ("On", "on"),
    "speculation": ("Off", "off"),
    "log_format": ("JSON", "json"),
    "page": ("Off", "off"),
    "cache_dir": ("/var/cache/sheily", Path("/var/cache/sheily")),
    "cache_gb": ("0.5", 0.5),
    "cache_scope": ("Key", "key"),
    "store": ("/var/lib/sheily/responses.db", Path("/var/lib/sheily/responses.db")),
    "store_days": ("7", 7),
    "store_mb": ("256", 256),
    "log_level": ("DEBUG", "debug"),
}

REFUSED = {
    "model_aliases": ["a\tb", "x" * 257, "gpt-4o,\0"],
    "strict": ["", "yes", "1"],
    "model_path": ["", "  ", "~nobody-has-this-name/model.gguf"],
    "context_size": ["", "63", "1048577", "4k", "4096.0", "-1"],
    "max_tokens": ["0", "1048577", "many"],
    "max_history": ["0", "-3", "100001"],
    "sampling": ["", "makers", "model,openai"],
    "temperature": ["", "hot", "-0.1", "2.01", "nan", "inf"],
    "top_p": ["", "all", "-0.1", "1.01", "nan"],
    "min_p": ["", "5 %", "-0.1", "1.01", "nan"],
    "host": ["", " ", "http://localhost", "127.0.0.1:8005", "localhost:80", "[::1]:8005"],
    "port": ["-1", "65536", "http"],
    "parallel": ["0", "65", "two"],
    "kv_tokens": ["", "63", "67108865", "all"],
    "queue": ["-1", "401", "x"],
    "cache_dir": ["", " ", "~nobody-has-this-name/cache"],
    "cache_gb": ["", "0", "65537", "8G"],
    "cache_scope": ["", "user", "all,key"],
    "threads": ["-1", "1025", "all"],
    "chunk": ["0", "4097", "all", ""],
    "stream_slowdown": ["", "twice", "1.09", "100.5", "nan", "inf"],
    "kernel": ["", " ", "avx2 ", "a" * 41, "avx-512", "avx2\n", "núcleo"],
    "kv_type": ["", "f32", "q8", "f16,q8_0"],
    "tuned": ["", " ", "~nobody-has-this-name/t.json", "no-such-file.json", "/", __file__],
    "background": ["-1", "65", "many"],
    "background_timeout": ["0", "-1", "soon"],
    "timeout": ["0", "-1", "nan", "inf", "86401", "soon", ""],
    "cors_origins": [
        "localhost:3000",
        "ftp://localhost",
        "http://",
        "http://localhost/",
        "http://localhost/app",
        "http://localhost?x",
        "http://localhost#x",
        "http://me@localhost",
        "http://localhost:port",
        "http://localhost:80",
        "https://example.org:443",
        "http://LOCALHOST:3000",
        "http://[::1",
        "http://localhost:3000 http://localhost:3001",
        "null",
    ],
    "hang_timeout": ["", "0", "soon", "0.4", "1.999", "86401"],
    "drain_timeout": ["", "-1", "soon"],
    "idle_unload": ["", "-1", "soon", "nan", "604801"],
    "trusted_proxies": [
        "proxy.example.org",
        "10.0.0.1, 10.0.0.1:80",
        "10.0.0.1/8",
        "10.0.0.0/40",
        "*",
    ],
    "allowed_hosts": [
        "http://llm",
        "llm:0",
        "llm:65536",
        "llm:x",
        "llm:",
        "llm/x",
        "a b",
        "café",
        "[::1",
        "[llm]",
        "*.example.org",
    ],
    "api_key": ["", " ", ",,", "a key", "clé", "tab\tbed", "one\ntwo"],
    "api_key_file": ["", " ", "~nobody-has-this-name/keys", "no-such-file", "/", __file__],
    "speculation": ["", "yes", "1"],
    "log_format": ["", "xml", "text,json"],
    "page": ["", "yes", "html"],
    "store": ["", " ", "~nobody-has-this-name/responses.db"],
    "store_days": ["", "0", "3651", "1.5", "never"],
    "store_mb": ["", "15", "1048577", "1g"],
    "log_level": ["", "loud", "critical"],
}


def test_the_engine_has_time_for_a_sign_of_life() -> None:
    """With less than the time between two of them it would be killed for ever."""
    assert load([], {"LLM_HANG_TIMEOUT": "2"}).hang_timeout == 2.0
    with pytest.raises(ConfigError, match=r"^LLM_HANG_TIMEOUT is 0.4, less than 2 seconds: "):
        load([], {"LLM_HANG_TIMEOUT": "0.4"})


def test_every_setting_has_an_example_here() -> None:
    names = {field.name for field in fields(Config)}
    assert set(EXAMPLES) == names
    assert set(REFUSED) == names


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load([], {})
    assert config.model_path == tmp_path / "models" / "Llama-3.2-3B-Instruct-Q8_0.gguf"
    assert (config.context_size, config.max_tokens, config.max_history) == (4096, 2048, None)
    assert (config.host, config.port, config.parallel) == ("127.0.0.1", 8005, 16)
    assert config.cors_origins == ()
    assert config.kv_cells == 4 * 4096


def test_the_kv_cache_has_one_context_at_least() -> None:
    assert load(["--parallel", "2"], {}).kv_cells == 2 * 4096
    assert load(["--kv-tokens", "100"], {}).kv_cells == 4096
    assert load(["--kv-tokens", "5000"], {}).kv_cells == 5000


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_variable_is_read(name: str) -> None:
    text, value = EXAMPLES[name]
    assert getattr(load([], {variable(name): text}), name) == value


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_flag_wins_over_its_variable(name: str) -> None:
    text, value = EXAMPLES[name]
    assert getattr(load([flag(name), text], {variable(name): REFUSED[name][0]}), name) == value


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in REFUSED.items() for t in texts])
def test_a_bad_value_is_one_sentence_that_names_the_setting(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as from_variable:
        load([], {variable(name): text})
    with pytest.raises(ConfigError) as from_flag:
        load([f"{flag(name)}={text}"], {})
    for error, source in ((from_variable, variable(name)), (from_flag, flag(name))):
        sentence = str(error.value)
        assert sentence.startswith(f"{source} ")
        assert sentence.endswith(".")
        assert "\n" not in sentence


def outcome(environment: dict[str, str]) -> Config | ConfigError:
    try:
        return load([], environment)
    except ConfigError as error:
        return error


@given(
    st.sampled_from([field.name for field in fields(Config)]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.floats().map(lambda value: f"\n{value}"),
)
def test_any_text_is_a_value_or_a_config_error(name: str, text: str) -> None:
    result = outcome({variable(name): text})
    assert isinstance(result, Config | ConfigError)
    if isinstance(result, ConfigError):
        assert str(result).startswith(variable(name))
        assert "\n" not in str(result)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(["--model-path", "m.gguf"], {}).model_path == tmp_path / "m.gguf"
    monkeypatch.setenv("HOME", "/somewhere")
    assert load([], {"LLM_MODEL_PATH": "~/m.gguf"}).model_path == Path("/somewhere/m.gguf")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PORT", "8123")
    assert load([]).port == 8123


def test_an_answer_must_leave_room_for_a_prompt() -> None:
    with pytest.raises(ConfigError, match=r"LLM_MAX_TOKENS is 512,.*LLM_CONTEXT_SIZE.* 512\."):
        load([], {"LLM_MAX_TOKENS": "512", "LLM_CONTEXT_SIZE": "512"})
    with pytest.raises(ConfigError, match="--max-tokens is 5000"):
        load(["--max-tokens", "5000"], {})
    assert load([], {"LLM_MAX_TOKENS": "511", "LLM_CONTEXT_SIZE": "512"}).max_tokens == 511


def test_the_default_length_of_an_answer_gives_way_to_a_small_context() -> None:
    config = load([], {"LLM_CONTEXT_SIZE": "1024"})
    assert (config.context_size, config.max_tokens) == (1024, 512)
    assert load([], {"LLM_CONTEXT_SIZE": "2049"}).max_tokens == 2048


def test_a_store_in_memory_is_smaller() -> None:
    assert load([], {}).store_limit_mb == 64
    assert load([], {"LLM_STORE": "/r.db"}).store_limit_mb == 1024
    for environment in ({"LLM_STORE_MB": "99"}, {"LLM_STORE_MB": "99", "LLM_STORE": "/r.db"}):
        assert load([], environment).store_limit_mb == 99


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load([], {}).port = 1  # type: ignore[misc]


def test_unknown_variables_are_named_with_the_nearest_setting() -> None:
    sentences = unknown_variables(
        {"LLM_CONTEXT": "1", "LLM_ZZZZZZ": "1", "LLM_PORT": "1", "OTHER": "1", "llm_port": "1"}
    )
    assert len(sentences) == 2
    assert sentences[0].startswith("LLM_CONTEXT is not a setting")
    assert sentences[0].endswith("did you mean LLM_CONTEXT_SIZE?")
    assert sentences[1].startswith("LLM_ZZZZZZ is not a setting")
    assert sentences[1].endswith(".")


def test_all_known_variables_are_known() -> None:
    assert unknown_variables({variable(name): "" for name in EXAMPLES}) == []


def test_keys_are_from_both_places_and_in_no_repr() -> None:
    config = load(["--api-key", "first-key"], {"LLM_API_KEY_FILE": str(KEYS)})
    assert config.api_keys == ("first-key", "file-key-1", "file-key-2")
    assert load([], {}).api_keys == ()
    assert "key-" not in repr(config)
    assert "-key" not in str(config.api_key_file)


def test_no_key_is_in_an_error(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("good-secret\nbad secret\n")
    for environment in ({"LLM_API_KEY": "bad secret"}, {"LLM_API_KEY_FILE": str(file)}):
        with pytest.raises(ConfigError) as caught:
            load([], environment)
        assert "secret" not in str(caught.value)


def test_an_address_is_told_from_what_people_put_around_it() -> None:
    assert load(["--host", " [::1] "], {}).host == "::1"
    for host, words in (
        ("127.0.0.1:8005", "is '127.0.0.1:8005', with a port, which LLM_PORT is for."),
        ("http://localhost:8005", "is 'http://localhost:8005', a URL: it must be an address"),
    ):
        with pytest.raises(ConfigError) as caught:
            load([], {"LLM_HOST": host})
        assert str(caught.value).startswith(f"LLM_HOST {words}")


def test_a_model_path_that_is_a_folder_names_the_models_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load([], {"LLM_MODEL_PATH": str(tmp_path)})
    assert str(caught.value) == f"LLM_MODEL_PATH is '{tmp_path}', a folder, not a file."
    for i in range(9):
        (tmp_path / f"{i}.gguf").touch()
    with pytest.raises(ConfigError) as caught:
        load([], {"LLM_MODEL_PATH": str(tmp_path)})
    assert str(caught.value).endswith("; there is 0.gguf, 1.gguf, 2.gguf, 3.gguf, 4.gguf in it.")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_on_the_loopback_no_door_is_open(host: str) -> None:
    assert open_doors(load(["--host", host], {})) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*", "192.168.1.5", "machine.lan"])
def test_elsewhere_a_key_is_missed(host: str) -> None:
    (sentence,) = open_doors(load(["--host", host], {}))
    assert sentence.startswith(f"LLM_HOST is {host} and no API key is set")
    assert open_doors(load(["--host", host, "--api-key", "k"], {})) == []


def test_every_name_without_a_key_is_an_open_door() -> None:
    (sentence,) = open_doors(load([], {"LLM_ALLOWED_HOSTS": "*"}))
    assert "LLM_ALLOWED_HOSTS is *" in sentence
    assert open_doors(load(["--api-key", "k"], {"LLM_ALLOWED_HOSTS": "*"})) == []


def test_a_file_of_keys_that_everyone_may_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("some-key\n")
    for mode, n_sentences in ((0o600, 0), (0o440, 0), (0o644, 1)):
        file.chmod(mode)
        sentences = open_doors(load([], {"LLM_API_KEY_FILE": str(file)}))
        assert len(sentences) == n_sentences
        assert all(str(file) in sentence for sentence in sentences)
        assert all("some-key" not in sentence for sentence in sentences)


def test_help_names_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        load(["--help"], {})
    assert exit.value.code == 0
    text = capsys.readouterr().out
    for name in EXAMPLES:
        assert flag(name) in text
    assert "4096" in text


@pytest.mark.parametrize("arguments", [["--contextsize", "1"], ["--cont", "4096"], ["model.gguf"]])
def test_unknown_arguments_end_the_program(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        load(arguments, {})
    assert exit.value.code == 2
    assert arguments[0] in capsys.readouterr().err
