"""Terms of llguidance's Lark that grammars of several packages share."""

from __future__ import annotations

import json
from typing import Any

# As json.dumps writes, which is how the models have seen JSON. Free white space would let a weak
# model write blanks for ever.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def json_term(schema: dict[str, Any]) -> str:
    """Returns the term for JSON that follows a schema, laid out as json.dumps does."""
    return f"%json {json.dumps(schema | {'x-guidance': _LAYOUT})}"
