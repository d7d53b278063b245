"""The pages under docs/ against the code: settings, options, routes, errors, packages, links."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

import sheily_native.tune.__main__ as tune
import sheily_server.client as client
from sheily_native.tune import plan
from sheily_server.backend.supervisor import Supervisor
from sheily_server.cli.main import COMMANDS
from sheily_server.config import Config, variable
from sheily_server.web.app import App
from tests.support.markdown import FENCE, LINK, ROOT, anchor, numbers, section, sections, whole
from tests.support.records import memory_store

SKIPPED = {"vendor", "build", "dist", "models", "node_modules"}
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.md")
    if not any(part in SKIPPED or part.startswith(".") for part in path.relative_to(ROOT).parts)
)
CONFIGURATION, BUILDING, API = "docs/configuration.md", "docs/building.md", "docs/api/README.md"

# --- settings, tuning, build options --------------------------------------------------------------


def settings() -> dict[str, str]:
    """Every setting of the page's tables with its default, without the marks of code."""
    rows = [row for part in sections(CONFIGURATION) for row in part.entries]
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names)
    return {name: row[1].strip("`") for name, row in zip(names, rows, strict=True)}


def test_every_setting_with_its_default() -> None:
    table = settings()
    assert set(table) == {variable(setting.name) for setting in fields(Config)}
    for setting in fields(Config):
        text = table[variable(setting.name)]
        if setting.name in ("cors_origins", "allowed_hosts"):
            assert setting.default == ()
            assert "loopback" in text
        elif setting.name == "model_path":
            assert Path(text) == setting.default
        elif setting.default in (None, ()):
            assert text == "none"
        else:
            assert setting.metadata["parse"](text) == setting.default, setting.name


@pytest.mark.parametrize("name", PAGES)
def test_no_other_setting_is_named(name: str) -> None:
    known = {variable(setting.name) for setting in fields(Config)}
    # One stands for any of them, others are the dashboard's or a prefix.
    others = {"LLM_NAME", "LLM_URL", "LLM_"}
    assert set(re.findall(r"LLM_[A-Z_]*", whole(name))) <= known | others


def test_what_is_said_of_tuning() -> None:
    text = whole("docs/tuning.md")
    said = numbers(FENCE.sub("", text))
    for number in (plan.PROMPT, plan.ANSWER, tune.SECONDS, 100 * plan.NOISE, plan.MAX_STEP_S):
        assert said[f"{number:g}"], number
    actions = tune.parser()._actions
    options = {option for action in actions for option in action.option_strings}
    rows = [row[0].strip("`") for row in section("docs/tuning.md", "Tuning").entries]
    assert set(rows) == options - {"-h", "--help", "--version"}
    assert f"`{tune.parser().get_default('out')}`" in text


def test_build_options_are_those_of_cmake() -> None:
    cmake = whole("cmake/GgmlOptions.cmake")
    known = set(re.findall(r"[A-Z][A-Z0-9_]+", cmake))
    named = set(re.findall(r"GGML_([A-Z0-9_]+)", whole(BUILDING)))
    assert named
    assert not {option for option in named if option not in known and f"GGML_{option}" not in known}
    assert {"NATIVE", "AVX2", "AVX512", "AVX512_VNNI", "AVX_VNNI", "AMX_INT8"} <= named
    assert {"BLAS", "BLAS_VENDOR", "OPENMP", "LTO"} <= named


# --- routes, errors, the client -------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PAGES, "Makefile"])
def test_build_options_are_given_as_the_pip_of_debian_12_knows_them(name: str) -> None:
    """That is pip 23.0.1: it has --config-settings and no -C."""
    assert not re.search(r"pip install[^\n]* -C ", whole(name))
    assert not re.search(r"-C cmake\.define", whole(name))


@pytest.mark.parametrize("name", PAGES)
def test_commands_of_sheily_that_a_page_names_exist(name: str) -> None:
    typed = re.findall(r"(?:^|`|/bin/|\| )sheily ([a-z]\w*)([^`\n#|]*)", whole(name), re.MULTILINE)
    for command, rest in typed:
        assert command in COMMANDS, command
        known = COMMANDS[command].options("sheily")._option_string_actions
        for word in re.findall(r"(?<=\s)--[a-z-]+", rest):
            assert word in known, f"sheily {command} {word}"


def test_the_page_of_the_command_has_a_row_for_each_command() -> None:
    [table] = [part for part in sections("docs/cli.md") if part.title.startswith("The command")]
    rows = " ".join(row[0] for row in table.entries)
    assert set(re.findall(r"sheily (\w+)", rows)) == set(COMMANDS)


def test_every_route_and_no_other() -> None:
    app = App(Config(), Supervisor(Config()), memory_store())
    routes = {
        f"`{method} {rule.rule.removeprefix('/v1')}`"
        for rule in app._map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    named = [route for row in section(API, "Endpoints").entries for route in row[0].split(", ")]
    plain = [route.replace(" /v1/", " /").replace("{id}", "<id>") for route in named]
    assert sorted(plain) == sorted(routes)


def codes() -> set[str]:
    """Every code of an error, from the calls that make one and from the recorded answers."""
    found: set[str] = set()
    for path in (ROOT / "sheily_server").rglob("*.py"):
        if "client" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code":
                found |= constants(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                where = {"HttpError": 2, "NotReadyError": 1}.get(node.func.id, len(node.args))
                found |= set[str]().union(*map(constants, node.args[where : where + 1]))
    for path in (ROOT / "tests").rglob("recorded/*.txt"):
        found |= set(re.findall(r'"code": ?"(\w+)"', path.read_text(encoding="utf-8")))
    return {code for code in found if re.fullmatch("[a-z]+(_[a-z]+)*", code)}


def constants(node: ast.AST) -> set[str]:
    return {
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }


def test_every_code_of_an_error_is_documented_and_no_other() -> None:
    rows = section(API, "Errors").entries
    named = [code for row in rows for code in re.findall(r"`(\w+)`", row[1])]
    assert len(set(named)) == len(named)
    assert codes() - set(named) == set()
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "sheily_server").rglob("*.py")
    )
    assert not [code for code in named if f'"{code}"' not in source]


def test_the_errors_of_the_client() -> None:
    named = re.findall(r"`(\w+Error)`", whole("docs/client.md"))
    exported = {name for name in client.__all__ if name.endswith("Error")}
    assert exported == set(named)


# --- dependencies ---------------------------------------------------------------------------------


def dependencies() -> set[str]:
    """Every package that pyproject.toml asks for, without versions; tomllib came with 3.11 only."""
    text = whole("pyproject.toml")
    lists = re.findall(
        r"^(requires|dependencies|fetch|test|browser|bench|dev) = (\[.*?\])$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    extras = ["fetch", "test", "browser", "bench", "dev"]
    assert [name for name, _ in lists] == ["requires", "dependencies", *extras]
    names = {
        re.split(r"[\s\[<>=~!;]", entry)[0] for _, it in lists for entry in ast.literal_eval(it)
    }
    return names - {"sheily-server"}


def test_every_dependency_and_no_other() -> None:
    cells = [row[0] for row in section("docs/dependencies.md", "Dependencies").entries]
    assert cells[0].startswith("[llama.cpp]")
    # Behind the first ";" or "," and a word are packages of npm and Debian.
    listed = [
        name for cell in cells[1:] for name in re.split(r"; |, (?=and )", cell)[0].split(", ")
    ]
    assert sorted(listed) == sorted(dependencies())


# --- every page -----------------------------------------------------------------------------------


def test_the_pages_that_are_checked() -> None:
    assert {"README.md", "README.es.md", "CONTRIBUTING.md", "docs/README.md"} <= set(PAGES)
    assert len(PAGES) > 40


@pytest.mark.parametrize("name", PAGES)
def test_local_links_and_their_anchors_exist(name: str) -> None:
    for link in LINK.findall(FENCE.sub("", whole(name))):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if fragment:
            page = str(target.resolve().relative_to(ROOT))
            assert fragment in [anchor(each.title) for each in sections(page)], link


@pytest.mark.parametrize("folder", ["docs", "docs/design/adr"])
def test_the_index_of_a_folder_lists_its_pages(folder: str) -> None:
    listed = {
        (ROOT / folder / link).resolve() for link in LINK.findall(whole(f"{folder}/README.md"))
    }
    pages = {path for path in (ROOT / folder).glob("*.md") if path.name != "README.md"}
    assert pages <= listed


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/design/adr").glob("0*.md")), ids=lambda p: p.stem
)
def test_a_decision_has_its_number_and_its_parts(path: Path) -> None:
    found = sections(str(path.relative_to(ROOT)))
    assert found[0].title.startswith(f"{int(path.stem[:4])}. ")
    assert [each.title for each in found[1:]] == ["Context", "Decision", "Consequences"]
    title = found[0].title.partition(". ")[2]
    assert f"- [{path.stem[:4]}]({path.name}): {title}" in whole("docs/design/adr/README.md")


def test_code_blocks_can_be_read() -> None:
    languages = Counter[str]()
    for name in PAGES:
        found = FENCE.findall(whole(name))
        languages.update(language for language, _ in found)
        for language, text in found:
            if language == "python":
                ast.parse(text)
            elif language == "json":
                json.loads(text)
    assert {"text", "sh", "python", "json"} <= set(languages)
    assert languages["python"] >= 4
    for name in ("README.md", "README.es.md"):
        assert whole(name).count("```") == 2 * len(FENCE.findall(whole(name)))


@pytest.mark.parametrize("name", PAGES)
def test_tests_that_a_page_names_exist(name: str) -> None:
    for path, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", whole(name)):
        source = whole(path)
        assert f"def {test}(" in source if test else source
