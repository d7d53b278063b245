"""Files that become documents: read in Chromium, with the policy and the files of the backend."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import dashboard
from tests.browser.conftest import OpenPage
from tests.browser.dashboard import WAIT_MS
from tests.support import pdf_files
from tests.support.pdf_files import Pdf, lines
from tests.support.waiting import WAIT, until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

NOBODY = "http://127.0.0.1:9"
FOREIGN = "http://foreign.example"
READ = """async ({ name, type, data, abortAt }) => {
    const { readDocument } = await import("/documents/read.js");
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const abort = new AbortController();
    const progress = [];
    const onProgress = (share) => {
        progress.push(share);
        if (progress.length === abortAt) abort.abort();
    };
    try {
        const file = new File([bytes], name, { type });
        const document = await readDocument(file, { signal: abort.signal, onProgress });
        return { document, progress };
    } catch (error) {
        return { error: error.name, code: error.code, detail: error.detail, progress };
    }
}"""
ACCEPT = """async () => {
    const { acceptFiles } = await import("/documents/drop.js");
    document.body.innerText = "The page";
    document.body.append(document.createElement("p"));
    window.log = [];
    window.stop = acceptFiles({
        target: window,
        onFiles(files) { log.push(files.map((file) => file.name)); },
        onError({ code, detail }) { log.push({ code, ...detail }); },
        onDrag(over) { log.push(over); },
    });
    window.filled = (count) => {
        const data = new DataTransfer();
        for (let i = 0; i < count; i++) data.items.add(new File(["x"], `${i}.txt`));
        return data;
    };
    window.fire = (type, dataTransfer, target = document.body) => {
        const options = { dataTransfer, bubbles: true, cancelable: true };
        return !target.dispatchEvent(new DragEvent(type, options));
    };
    window.paste = (clipboardData) => {
        const options = { clipboardData, bubbles: true, cancelable: true };
        return !document.body.dispatchEvent(new ClipboardEvent("paste", options));
    };
}"""


class Reader:
    """An empty page of the backend's, and what it asks the network for."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.route("**/empty.html", self._empty)
        page.goto(f"{url}/empty.html")
        page.context.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _empty(self, route: Route) -> None:
        """The policy is the backend's own."""
        response = route.fetch(url=f"{self.url}/index.html")
        assert "trusted-types" in response.headers["content-security-policy"]
        route.fulfill(response=response, body="<!doctype html><title>Empty</title><body></body>")

    def read(self, data: bytes, name: str = "file", type: str = "", abort_at: int = 0) -> Any:
        encoded = base64.b64encode(data).decode()
        argument = {"name": name, "type": type, "data": encoded, "abortAt": abort_at}
        return self.page.evaluate(READ, argument)

    def pages(self, data: bytes, name: str = "file.pdf") -> list[str]:
        found = self.read(data, name)
        assert "document" in found, found
        pages: list[str] = found["document"]["pages"]
        return pages

    def refusal(self, data: bytes, name: str = "file.pdf") -> tuple[str, Any]:
        found = self.read(data, name)
        assert "code" in found, found
        return found["code"], found["detail"]

    def workers(self) -> int:
        self.page.evaluate("0")  # lets Playwright hear of those that ended
        return len(self.page.workers)

    def paths(self) -> list[str]:
        """What was asked for, all of it of the backend."""
        assert all(url.startswith(self.url) for url in self.requests), self.requests
        return [url.removeprefix(self.url) for url in self.requests]


@pytest.fixture
def reader(node: None, open_page: OpenPage) -> Iterator[Reader]:
    with dashboard.serving(NOBODY) as url:
        reader = Reader(open_page(), url.rstrip("/"))
        yield reader
        reader.paths()
        assert reader.complaints == []
        until(lambda: reader.workers() == 0, WAIT, "for the workers to end")
        reader.page.goto("about:blank")


def test_texts_are_read_in_their_encodings(reader: Reader) -> None:
    text = "El niño comió “piñas”: ¿cuántas? 5 €\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "windows-1252"):
        assert reader.pages(text.encode(encoding), "a.txt") == [text], encoding
    assert reader.pages(b"\xfe\xff" + text.encode("utf-16-be"), "a.txt") == [text]
    read = reader.read("# Título\r\n\r\nUno".encode(), "notas.md")["document"]
    assert read["kind"] == "markdown"
    assert read["pages"] == ["# Título\n\nUno"]
    page = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    assert reader.pages(page.encode(), "page.html") == [page]
    assert not any("/vendor/" in path for path in reader.paths())


def test_names_are_only_ever_text(reader: Reader) -> None:
    for name, shown in (
        ("<img src=x onerror=alert(1)>.txt", "<img src=x onerror=alert(1)>.txt"),
        ("invoice\u202etxt.exe", "invoicetxt.exe"),
        ("nul\0l\n.txt", "null .txt"),
    ):
        read = reader.read(b"text", name)["document"]
        assert read["name"] == shown
    assert "etc" in reader.read(b"text", "../../etc/passwd")["document"]["name"]
    long = reader.read(b"text", "ñ" * 10_000 + ".txt")["document"]["name"]
    assert len(long) == 120
    assert long.endswith("ñ.txt")


def test_what_is_no_text_is_refused(reader: Reader) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9
    assert reader.refusal(png, "a.txt") == ("document_kind_unknown", {"kind": "png"})
    assert reader.refusal(bytes(1000), "a.txt") == ("document_is_binary", {})
    assert reader.refusal(b"", "a.pdf") == ("document_is_empty", {})


def test_a_pdf_is_read_page_by_page(reader: Reader) -> None:
    data = Pdf(
        [
            lines("El pingüino (ñandú)", "comió piñas: ¿cuántas?", "", "Otro párrafo, 5 €."),
            lines("A hyphen-", "ation is left alone"),
            b"",
        ]
    ).written()
    found = reader.read(data, "a.pdf")
    read = found["document"]
    assert (read["kind"], read["pageCount"], read["cut"]) == ("pdf", 3, False)
    assert read["pages"] == [
        "El pingüino (ñandú)\ncomió piñas: ¿cuántas?\n\nOtro párrafo, 5 €.",
        "A hyphen-\nation is left alone",
        "",
    ]
    assert found["progress"] == [1 / 3, 2 / 3, 1]
    assert set(reader.paths()) >= {"/vendor/pdf.js", "/vendor/pdf.worker.js"}
    assert not any("standard_fonts" in path or "wasm" in path for path in reader.paths())
    # Whatever its name says, and behind a first line that is not PDF's where its name says it.
    assert reader.pages(data, "a.txt") == read["pages"]
    assert reader.pages(b"From: somebody\n\n" + data) == read["pages"]


def test_japanese_and_symbols_are_read(reader: Reader) -> None:
    japanese = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Ryumin /Encoding /UniJIS-UTF16-H "
        b"/DescendantFonts [<< /Type /Font /Subtype /CIDFontType0 /BaseFont /Ryumin /CIDSystemInfo "
        b"<< /Registry (Adobe) /Ordering (Japan1) /Supplement 4 >> /FontDescriptor << "
        b"/Type /FontDescriptor /FontName /Ryumin /Flags 4 >> >>] >>"
    )
    text = "日本語の文書"
    shown = text.encode("utf-16-be").hex().encode()
    drawing = b"BT /F1 12 Tf 72 720 Td <" + shown + b"> Tj ET"
    assert reader.pages(Pdf([drawing], font=japanese).written()) == [text]
    assert "/vendor/cmaps/UniJIS-UTF16-H.bcmap" in reader.paths()
    symbol = b"<< /Type /Font /Subtype /Type1 /BaseFont /Symbol >>"
    assert reader.pages(Pdf([lines("abg")], font=symbol).written()) == ["αβγ"]


def test_locked_and_broken_pdfs_are_refused(reader: Reader) -> None:
    page = lines("A page")
    assert reader.pages(Pdf([page], password=b"").written()) == ["A page"]
    assert reader.refusal(Pdf([page], password=b"secret").written()) == ("pdf_is_encrypted", {})
    for data in (b"%PDF-1.7\n", b"%PDF-1.7\n" + bytes(range(256)) * 50, b"no PDF at all"):
        assert reader.refusal(data) == ("pdf_is_broken", {}), data[:20]
    scanned = Pdf([b"0 0 100 100 re f", b"", b"q Q"]).written()
    assert reader.refusal(scanned) == ("pdf_has_no_text", {"pages": 3})


def test_a_truncated_pdf_is_refused_and_one_without_its_table_is_read(reader: Reader) -> None:
    data = Pdf([lines(f"Page {i}") for i in range(20)]).written()
    for end in range(9, data.index(b"trailer"), 397):
        assert reader.refusal(data[:end]) == ("pdf_is_broken", {}), end
    lost_table = data.replace(b"startxref\n", b"startxref\n9")
    assert reader.pages(lost_table)[0] == "Page 0"


def test_nothing_in_a_pdf_runs_or_calls(reader: Reader) -> None:
    script = f"app.alert('ran'); this.submitForm('{FOREIGN}/form');".encode()
    run = b"<< /S /JavaScript /JS (" + script.replace(b"(", rb"\(").replace(b")", rb"\)") + b") >>"
    uri = b"<< /S /URI /URI (" + FOREIGN.encode() + b"/uri) >>"
    launch = b"<< /S /Launch /F (/bin/sh) >>"
    data = Pdf(
        [lines("Harmless text")],
        catalog=b"/OpenAction " + run + b" /AA << /WC " + uri + b" >> /Names << "
        b"/JavaScript << /Names [(a) " + run + b"] >> "
        b"/EmbeddedFiles << /Names [(evil.html) 4 0 R] >> >>",
        page=b"/AA << /O "
        + launch
        + b" /C "
        + run
        + b" >> /Annots ["
        + b" ".join(
            b"<< /Type /Annot /Subtype /Link /Rect [0 0 612 792] /A " + action + b" >>"
            for action in (run, uri, launch)
        )
        + b"]",
        objects=[
            b"<< /Type /Filespec /F (evil.html) /EF << /F 5 0 R >> >>",
            pdf_files.stream(b"<script>alert(1)</script>", b"/Type /EmbeddedFile"),
        ],
    ).written()
    assert reader.pages(data) == ["Harmless text"]
    allowed = ("/documents/", "/vendor/pdf.")
    assert all(path.startswith(allowed) for path in reader.paths()), reader.paths()


def test_long_pdfs_are_read_up_to_a_limit_and_until_they_are_cancelled(reader: Reader) -> None:
    data = Pdf([lines(f"Page {i}") for i in range(1, 201)]).written()
    found = reader.read(data, "a.pdf")
    assert found["document"]["pages"][199] == "Page 200"
    assert len(found["progress"]) == 200
    cancelled = reader.read(data, "a.pdf", abort_at=3)
    assert cancelled["error"] == "AbortError"
    assert len(cancelled["progress"]) == 3
    limited = """async ({ data, limits, maxUnits }) => {
        const { readPdf } = await import("/documents/pdf.js");
        const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
        return readPdf(bytes, { maxUnits, limits });
    }"""
    argument: dict[str, Any] = {"data": base64.b64encode(data).decode(), "maxUnits": 1e6}
    argument["limits"] = {"pages": 5, "stepMs": WAIT_MS}
    read = reader.page.evaluate(limited, argument)
    assert (len(read["pages"]), read["pageCount"], read["cut"]) == (5, 200, True)
    read = reader.page.evaluate(limited, argument | {"maxUnits": 20})
    assert (len(read["pages"]), read["pageCount"], read["cut"]) == (4, 200, True)


def nested_forms(levels: int, times: int) -> bytes:
    """A page of forms, each of which draws the next one so many times, and the last one a word."""
    forms = []
    for number in range(4, 4 + levels):
        last = number == 3 + levels
        drawing = lines("word") if last else b"/X Do " * times
        resources = b"/Font << /F1 3 0 R >>" if last else b"/XObject << /X %d 0 R >>" % (number + 1)
        entries = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << %s >>" % resources
        forms.append(pdf_files.stream(drawing, entries))
    page = b"/Resources << /XObject << /X 4 0 R >> >>"
    return Pdf([b"/X Do"], page=page, objects=forms).written()


def test_a_page_without_end_is_given_up(reader: Reader) -> None:
    assert reader.pages(nested_forms(levels=3, times=2))[0].count("word") == 4
    code = reader.page.evaluate(
        """async (data) => {
            const { readPdf } = await import("/documents/pdf.js");
            const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
            const limits = { pages: 9, stepMs: 1000 };
            return readPdf(bytes, { maxUnits: 1e9, limits }).catch((error) => error.code);
        }""",
        base64.b64encode(nested_forms(levels=10, times=1000)).decode(),
    )
    assert code == "pdf_takes_too_long"


def test_without_its_library_a_pdf_is_refused(reader: Reader) -> None:
    reader.page.route("**/vendor/pdf.worker.js", lambda route: route.fulfill(status=404))
    assert reader.refusal(Pdf([lines("x")]).written()) == ("pdf_reader_missing", {})
    reader.complaints.clear()  # Chromium names the file that is not there


def test_files_are_dropped_and_pasted(reader: Reader) -> None:
    page = reader.page
    page.evaluate(ACCEPT)

    def log() -> Any:
        return page.evaluate("log.splice(0)")

    # Over the page, one of its elements, and out of the window.
    assert page.evaluate("fire('dragenter', filled(1))")
    assert page.evaluate("fire('dragenter', filled(1), document.querySelector('p'))")
    assert not page.evaluate("fire('dragleave', filled(1))")
    assert page.evaluate("fire('dragover', filled(1))")
    assert log() == [True]
    page.evaluate("fire('dragleave', filled(1), document.querySelector('p'))")
    assert log() == [False]
    page.evaluate("fire('dragenter', filled(1))")
    assert page.evaluate("fire('drop', filled(2))")
    assert log() == [True, False, ["0.txt", "1.txt"]]

    assert page.evaluate("fire('drop', filled(11))")
    assert log() == [{"code": "too_many_documents", "limit": 10}]
    assert page.evaluate("paste(filled(1))")
    assert log() == [["0.txt"]]

    # What is no file, and what was part of the page.
    words = "(() => { const data = new DataTransfer(); data.setData('text/plain', 'x'); %s })()"
    for kind in ("dragenter", "dragover", "drop"):
        assert not page.evaluate(words % f"return fire('{kind}', data);")
    assert not page.evaluate(words % "return paste(data);")
    rich = "data.setData('text/html', '<b>x</b>'); data.items.add(new File(['x'], 'picture.png'));"
    assert not page.evaluate(words % f"{rich} return paste(data);")
    page.evaluate("fire('dragstart', filled(1))")
    assert not page.evaluate("fire('drop', filled(1))")
    page.evaluate("fire('dragend', filled(1))")
    assert log() == []

    page.evaluate("stop()")
    assert not page.evaluate("fire('drop', filled(1))")
    assert log() == []


def test_a_folder_is_refused_and_its_neighbours_are_taken(reader: Reader, tmp_path: Path) -> None:
    page = reader.page
    page.evaluate(ACCEPT)
    folder = tmp_path / "folder"
    folder.mkdir()
    file = tmp_path / "file.txt"
    file.write_text("text")
    data = {"items": [], "files": [str(folder), str(file)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 50, "y": 50, "data": data})
    page.wait_for_function("log.length === 4")
    refused = {"code": "document_unreadable", "name": "folder"}
    assert page.evaluate("log") == [True, False, ["file.txt"], refused]
