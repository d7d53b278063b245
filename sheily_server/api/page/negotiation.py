"""Reads the headers in which a client says what it prefers (RFC 9110, section 12.5). Pure."""

from __future__ import annotations


def preferences(header: str) -> list[str]:
    """Returns the names in an Accept or Accept-Language header, in small letters, the most wanted
    first. What is not wanted (`q=0`) is left out, as is what is no number.

    >>> preferences("en;q=0.5, es-ES, fr;q=0")
    ['es-es', 'en']
    """
    found: list[tuple[float, str]] = []
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                weight = _weight(parameter[2:])
        if name and weight > 0:
            found.append((weight, name))
    return [name for _, name in sorted(found, key=lambda pair: -pair[0])]


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
