"""PDF files, written by hand: pages of text, and what a file can have to do harm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_FILE_ID = b"0123456789abcdef"


def lines(*texts: str) -> bytes:
    """The drawing of a page's lines, from its top; an empty one leaves a gap."""
    shown = (b"(" + _escaped(text) + b") Tj T*" for text in texts)
    return b"BT /F1 12 Tf 72 720 Td 14 TL\n" + b"\n".join(shown) + b"\nET"


def _escaped(text: str) -> bytes:
    data = text.encode("windows-1252")
    return data.replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)")


@dataclass
class Pdf:
    """What a file has. `catalog` and `page` are entries of its root and of every page; `objects`
    are numbered from 4 on, behind the catalog, the pages and the font F1."""

    pages: Sequence[bytes]
    font: bytes = HELVETICA
    catalog: bytes = b""
    page: bytes = b""
    objects: list[bytes] = field(default_factory=list)
    password: bytes | None = None
    """Encrypts the file: an empty one is asked of nobody."""

    def written(self) -> bytes:
        first = 4 + len(self.objects)
        kids = b" ".join(b"%d 0 R" % (first + 2 * i) for i in range(len(self.pages)))
        bodies = [
            b"<< /Type /Catalog /Pages 2 0 R " + self.catalog + b" >>",
            b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(self.pages), kids),
            self.font,
            *self.objects,
        ]
        for drawing in self.pages:
            number = len(bodies) + 2
            bodies.append(
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
                b"/Resources << /Font << /F1 3 0 R >> >> %s >>" % (number, self.page)
            )
            bodies.append(stream(self._sealed(drawing, number)))
        return self._file(bodies)

    def _file(self, bodies: list[bytes]) -> bytes:
        data = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
        offsets = []
        for number, body in enumerate(bodies, 1):
            offsets.append(len(data))
            data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        start = len(data)
        entries = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        size = len(bodies) + 1
        data += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, entries)
        trailer = b"/Size %d /Root 1 0 R %s" % (size, self._encryption())
        return data + b"trailer\n<< %s >>\nstartxref\n%d\n%%%%EOF\n" % (trailer, start)

    def _encryption(self) -> bytes:
        if self.password is None:
            return b""
        user = _rc4(self._key(), _PADDING)
        return (
            b"/ID [<%s> <%s>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>"
            % tuple(part.hex().encode() for part in (_FILE_ID, _FILE_ID, _PADDING, user))
        )

    def _key(self) -> bytes:
        """Of the file, as revision 2 of the standard handler has it, of 40 bits."""
        padded = ((self.password or b"") + _PADDING)[:32]
        permissions = (-4).to_bytes(4, "little", signed=True)
        return _md5(padded + _PADDING + permissions + _FILE_ID)[:5]

    def _sealed(self, data: bytes, number: int) -> bytes:
        if self.password is None:
            return data
        return _rc4(_md5(self._key() + number.to_bytes(3, "little") + b"\0\0")[:10], data)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _rc4(key: bytes, data: bytes) -> bytes:
    box = list(range(256))
    j = 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) % 256])
    return bytes(out)
