"""The login page of a dashboard that has a password."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import dashboard, pages
from tests.browser.conftest import OpenPage
from tests.support.scripted_llm import ScriptedLlm

if TYPE_CHECKING:
    from playwright.sync_api import Page

PASSWORD = "correct horse ñ"


@pytest.fixture
def url(node: None, llm: ScriptedLlm) -> Iterator[str]:
    with dashboard.serving(llm.url, DASHBOARD_PASSWORD=PASSWORD) as url:
        yield url


def problem_of(page: Page) -> str:
    """What is said once a password was refused."""
    problem = page.get_by_role("alert")
    problem.filter(has_text=".").wait_for()
    return problem.inner_text()


def test_a_password_lets_in_by_keyboard(open_page: OpenPage, url: str) -> None:
    page = open_page()
    page.goto(url)
    assert page.url == f"{url}/login.html"
    assert page.title() == "Sign in · SHEILY"
    assert page.evaluate("document.activeElement.id") == "password"
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    assert problem_of(page) == "That is not the password."
    assert page.evaluate("document.activeElement.id") == "password"
    assert page.locator("#password").get_attribute("aria-invalid") == "true"
    page.keyboard.type(PASSWORD)  # the wrong one is selected
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    page.locator("#question").wait_for()
    page.goto(f"{url}/login.html")
    assert page.url == f"{url}/"


def test_what_can_be_reached_by_tab(open_page: OpenPage, url: str) -> None:
    page = open_page()
    page.goto(f"{url}/login.html")
    seen = []
    for _ in range(4):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(pages.FOCUSED))
    assert seen == ["show", "Sign in", "English", "Español"]
    page.keyboard.press("Enter")
    assert page.title() == "Iniciar sesión · SHEILY"
    page.reload()
    assert page.get_by_label("Contraseña", exact=True).is_visible()
    page.get_by_label("Mostrar la contraseña").check()
    assert page.locator("#password").get_attribute("type") == "text"


def test_too_many_passwords_in_spanish(open_page: OpenPage, url: str) -> None:
    """As the backend says it, whose own waits would end by themselves on a busy machine."""
    error = {"message": "Too many wrong passwords.", "code": "too_many_guesses"}
    page = open_page(locale="es-ES")
    page.goto(url)
    page.route(
        "**/api/session",
        lambda route: route.fulfill(
            status=429, headers={"Retry-After": "64"}, json={"error": error}
        ),
    )
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Entrar").click()
    assert problem_of(page).startswith("Demasiadas contraseñas incorrectas. Vuelve a intentarlo ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_can_be_read(open_page: OpenPage, url: str, scheme: str, width: int) -> None:
    page = open_page(width=width, color_scheme=scheme)
    page.goto(f"{url}/login.html")
    page.locator("#password").fill("wrong")
    page.keyboard.press("Enter")
    problem_of(page)
    assert page.evaluate(pages.POOR_CONTRAST) == []
    assert page.evaluate(pages.TOO_WIDE) == []
    page.evaluate(dashboard.AXE.read_text("utf-8"))
    found = page.evaluate("async () => (await axe.run(document)).violations.map(({id}) => id)")
    assert found == []
