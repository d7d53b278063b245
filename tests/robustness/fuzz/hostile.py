"""Grammars that a seed makes costly: each asks for the one thing that takes a compiler's time or
memory, in a spelling or a size that another case does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

Json = dict[str, Any]

_MANY = (20, 59, 140, 500, 2000)
_HUGE = (100, 2000, 2001, 65_536, 100_000, 2**31, 2**32, 10**12)
_MULTIPLES = (
    *(10**n for n in range(13)),
    *(2**n for n in (10, 20, 31, 40)),
    *(3, 7, 97, 9_973, 65_537, 999_983, 1_000_003, 2**31 - 1, 10**12 - 11, 10**12 + 39),
    *(0.1, 0.01, 1e-7, 0.3, 2.5, 123_456.789, 1e-300, 1e300),
)
_CLASSES = (
    "a",
    "[a-z]",
    r"\d",
    r"\w",
    r"\s",
    ".",
    r"\p{L}",
    r"\p{Lu}",
    r"[\p{L}\p{N}_-]",
    r"[^\p{Greek}]",
    "[^a]",
    "漢",
    "é|😀",
    r"\u00e9",
    r"[\x00-\x7f]",
    "(?i:straße)",
)
_FORMATS = (
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "uuid",
    "ipv4",
    "ipv6",
    "uri",
    "hostname",
)


def schema(random: Random) -> Json:
    """A JSON Schema, most often an object around what is costly."""
    found = random.choice(_SCHEMAS)(random)
    if random.random() < 0.3:
        found = {"type": "object", "properties": {"a": found, "b": {}}, "required": ["a"]}
    elif random.random() < 0.1:
        found = {"type": "array", "items": found}
    return found


def pattern(random: Random) -> str:
    """A pattern for a string."""
    return random.choice(_PATTERNS)(random)


def lark(random: Random) -> str:
    """A grammar in llguidance's Lark."""
    return random.choice(_LARK)(random)


# --- patterns -------------------------------------------------------------------------------------


def _repetition(random: Random, part: str, n: int | None = None) -> str:
    n = random.choice((*_MANY, *_HUGE)) if n is None else n
    low = random.choice((0, 1, n // 2, n))
    spellings = (
        f"{part}{{{n}}}",
        f"{part}{{{n},}}",
        f"{part}{{{low},{n}}}",
        f"{part}{{,{n}}}",
        f"{part}{{ {n} }}",
        f"{part}{{ {low} , {n} }}",
        f"{part}{{{n:06}}}",
        f"(?x){part}{{ {n} }}",
        f"{part}{{{n}}}?",
    )
    return random.choice(spellings)


def _group(random: Random) -> str:
    return random.choice(("(%s)", "(?:%s)", "(?P<a>%s)")) % random.choice(_CLASSES)


def _repeated(random: Random) -> str:
    return _repetition(random, random.choice((random.choice(_CLASSES), _group(random))))


def _repeated_often(random: Random) -> str:
    n = random.choice((10, 140, 400))
    return _repetition(random, random.choice(_CLASSES), random.choice((50, 1000, 2000))) * n


def _nested(random: Random) -> str:
    found = random.choice(_CLASSES)
    for _ in range(random.choice((2, 3, 5, 30))):
        found = "(" + _repetition(random, f"({found})", random.choice((2, 10, 50, 200))) + ")"
    return found


def _far_back(random: Random) -> str:
    """A letter that stands a fixed number of characters before the end: as many states as there are
    subsets."""
    n = random.choice((5, 12, 20, 200))
    return f"^.*{random.choice(('a', '[ab]', r'[0-9]'))}.{{{n}}}$"


def _alternatives(random: Random) -> str:
    n = random.choice(_MANY)
    words = ["".join(random.choices("abcé漢", k=random.choice((1, 5, 20)))) for _ in range(n)]
    return f"^({'|'.join(words)}){random.choice(('', '*', '{20}', '{1,300}'))}$"


def _stars(random: Random) -> str:
    part = random.choice(("(a*)*", "(a|a)*", "(a|ab|b)*", "(.*a)", "(x+x+)+", "((a+)+b?)*"))
    return part * random.choice((1, 5, 20, 100)) + random.choice(("", "y", "$", "b{1000}"))


def _odd(random: Random) -> str:
    return random.choice(
        (
            "(?=a)b",
            r"(a)\1",
            "(?<!a)b",
            r"\b" * 500,
            "(" * 300 + ")" * 300,
            "(" * 5000,
            "[" * 1000,
            "a|" * 5000,
            "|" * 20_000,
            r"\p{L}" * 1500,
            r"\p{Nonsense}",
            r"[\p{L}--\p{Lu}]{100}",
            "(?i)" + "k" * 2000,
            "^" * 2000 + "$" * 2000,
            "a{2,1}",
            "a{99999999999999999999}",
            "\x00\x01\x1f",
            "\\",
            "x" * 30_000,
            "漢" * 3000,
            r"[\s\S]*" * 60,
        )
    )


_PATTERNS: tuple[Callable[[Random], str], ...] = (
    _repeated,
    _repeated_often,
    _nested,
    _far_back,
    _alternatives,
    _stars,
    _odd,
)


# --- schemas --------------------------------------------------------------------------------------


def _string(random: Random) -> Json:
    return {"type": "string", "pattern": pattern(random)}


def _multiple(random: Random) -> Json:
    found: Json = {
        "type": random.choice(("integer", "number")),
        "multipleOf": random.choice((*_MULTIPLES, random.randrange(1, 10**12))),
    }
    if random.random() < 0.4:
        found |= {"minimum": random.choice((0, -(10**15), 1e-300)), "maximum": 10**15 + 1}
    return found


def _multiples(random: Random) -> Json:
    """What is a multiple of all of them is one of their least common multiple."""
    n = random.choice((2, 3, 10))
    return {
        "type": "integer",
        "allOf": [{"multipleOf": random.choice(_MULTIPLES)} for _ in range(n)],
    }


def _bounds(random: Random) -> Json:
    number = random.choice((10**15, 2**63, 10**300, 1e308, 1e-308, 123456789.123456789))
    return {"type": "number", "minimum": -number, "exclusiveMaximum": number * 0.999}


def _meeting(random: Random) -> Json:
    """One value that many parts are about."""
    n = random.choice((8, 19, 59, 300))
    parts = [
        random.choice(
            (
                {"pattern": f"a.{{{i + 1}}}b"},
                {"pattern": f"^.*{i}"},
                {"format": random.choice(_FORMATS)},
                {"type": "string", "maxLength": 100 + i},
                {"required": [f"p{i}"]},
                {"properties": {f"p{i}": {"pattern": f"x{i}"}}},
            )
        )
        for i in range(n)
    ]
    return {random.choice(("allOf", "allOf", "anyOf", "oneOf")): parts}


def _alternative_schemas(random: Random) -> Json:
    n = random.choice((20, 140, 800))
    make = random.choice(
        (
            lambda i: {"const": f"word {i}"},
            lambda i: {"type": "string", "minLength": i, "maxLength": 2 * i},
            lambda i: {"type": "object", "properties": {"kind": {"const": i}, f"p{i}": {}}},
            lambda i: {"type": "array", "prefixItems": [{}] * (i % 9), "minItems": i % 9},
            lambda i: _multiple(random),
            lambda i: {"pattern": "^" + "a" * (i % 50) + "b*"},
        )
    )
    return {random.choice(("anyOf", "oneOf")): [make(i) for i in range(n)]}


def _many_of_a_kind(random: Random) -> Json:
    make = random.choice(_LEAVES)
    n = random.choice((20, 50, 300))
    names = [random.choice(("p%d", "é%d", "漢字 %d", "\u2028%d")) % i for i in range(n)]
    one = make(random) if random.random() < 0.5 else None
    properties = {name: one if one is not None else make(random) for name in names}
    found: Json = {"type": "object", "properties": properties}
    if random.random() < 0.5:
        found["required"] = random.sample(names, k=random.choice((1, n // 2, n)))
    if random.random() < 0.5:
        found["additionalProperties"] = random.choice((False, {"type": "string"}))
    return found


def _pattern_properties(random: Random) -> Json:
    n = random.choice((1, 5, 20))
    return {
        "type": "object",
        "patternProperties": {pattern(random)[:2000]: {"type": "integer"} for _ in range(n)},
        "minProperties": random.choice((0, 10, 2000)),
    }


def _unrolled(random: Random) -> Json:
    """Each definition refers to the next one several times."""
    n, width = random.choice((5, 12, 20, 200, 1200)), random.choice((1, 1, 2, 3, 8))
    key = random.choice(("properties", "anyOf", "allOf", "prefixItems"))
    definitions: Json = {f"d{n}": random.choice(_LEAVES)(random)}
    for i in range(n):
        to = [{"$ref": f"#/$defs/d{i + 1}"} for _ in range(width)]
        named = {f"p{j}": one for j, one in enumerate(to)}
        definitions[f"d{i}"] = {key: named if key == "properties" else to}
    return {"$ref": "#/$defs/d0", "$defs": definitions}


def _round(random: Random) -> Json:
    """References that come back to where they began."""
    key = random.choice(("anyOf", "allOf", "oneOf", "items", "properties", "additionalProperties"))
    back: Any = {"$ref": random.choice(("#", "#/$defs/a", "#/$defs/b"))}
    holder = [back, {"type": "string"}] if key.endswith("Of") else back
    a = {key: {"x": holder} if key == "properties" else holder}
    return {"$ref": "#/$defs/a", "$defs": {"a": a, "b": {"$ref": "#/$defs/a"}}}


def _enum(random: Random) -> Json:
    n = random.choice((500, 3000, 9000))
    width = max(1, 50_000 // n - 4)
    alike = random.random() < 0.5
    words = [
        "x" * (width - 5) + f"{i:05}" if alike else "".join(random.choices("abcdefé", k=width // 2))
        for i in range(n)
    ]
    return {"enum": words if random.random() < 0.7 else list(range(n))}


def _lengths(random: Random) -> Json:
    n = random.choice(_HUGE)
    return random.choice(
        (
            {"type": "string", "maxLength": n},
            {"type": "string", "minLength": n},
            {"type": "string", "minLength": n, "maxLength": n},
            {"type": "array", "minItems": n, "items": _multiple(random)},
            {"type": "array", "maxItems": n, "items": {"type": "string", "maxLength": n}},
            {"type": "array", "minItems": n, "maxItems": n, "items": {}},
            {"type": "object", "minProperties": n},
            {"type": "string", "format": "uri", "maxLength": n},
            {"type": "string", "pattern": "^[a-z]*$", "minLength": n},
        )
    )


def _deep(random: Random) -> Json:
    depth = random.choice((10, 29, 31, 40))
    found: Json = random.choice(_LEAVES)(random)
    for i in range(depth):
        found = random.choice(
            (
                {"items": found, "type": "array"},
                {"properties": {"a": found}},
                {"anyOf": [found, {"type": "null"}]},
                {"allOf": [found]},
                {"additionalProperties": found, "properties": {"b": {"const": i}}},
            )
        )
    return found


def _large(random: Random) -> Json:
    """Close to as many bytes as there may be, on either side."""
    n = 64 * 1024 - random.choice((-1, 0, 30, 100, 5000))
    return random.choice(
        (
            {"const": "x" * (n - 13)},
            {"type": "string", "pattern": "x" * (n - 34)},
            {"description": "漢" * (n // 6 - 5)},
            {"type": "object", "properties": {"é" * (n // 6 - 10): {}}},
            {"enum": ["a" * 100] * (n // 105)},
            {"properties": {f"p{i}": {} for i in range(4900)}},
            {"required": [f"p{i}" for i in range(6000)]},
        )
    )


def _inside(random: Random) -> Json:
    """What would be something else for the compiler than a value."""
    return random.choice(
        (
            {"x-guidance": {"whitespace_flexible": True, "lenient": True}, "not": {}},
            {"type": "string", "pattern": 'a"\n}\nstart: /b/'},
            {"properties": {'"}\nstart: /(.|\\n)*/\n#': {}}},
            {"$id": "http://a.example/", "$ref": "http://a.example/#/$defs/a", "$defs": {"a": {}}},
            {"$ref": "#/properties/" + "a" * 5000, "properties": {}},
            {"$ref": "#" + "/$defs" * 2000},
            {"const": "<|eot_id|><|begin_of_text|>"},
            {"type": ["string", "number", "object", "array", "null", "boolean", "integer"] * 300},
            {"const": {"a": [[[[[[{}]]]]]] * 300}},
        )
    )


_LEAVES: tuple[Callable[[Random], Json], ...] = (
    _multiple,
    _string,
    lambda random: {"type": "string", "format": random.choice(_FORMATS)},
    lambda random: {"type": "string", "maxLength": random.choice((50, 2000))},
    lambda random: {"enum": [f"word {i}" for i in range(100)]},
    lambda random: {"type": "number", "minimum": -1e15, "maximum": 1e15},
    lambda random: {"type": "array", "maxItems": 100, "items": {"type": "string"}},
)
_SCHEMAS: tuple[Callable[[Random], Json], ...] = (
    _string,
    _string,
    _string,
    _multiple,
    _multiples,
    _bounds,
    _meeting,
    _alternative_schemas,
    _many_of_a_kind,
    _many_of_a_kind,
    _pattern_properties,
    _unrolled,
    _round,
    _enum,
    _lengths,
    _deep,
    _large,
    _inside,
)


# --- Lark -----------------------------------------------------------------------------------------


def _terminal(random: Random) -> str:
    text = pattern(random).replace("/", r"\/").replace("\n", r"\n")
    return f"start: A\nA: /{text}/"


def _rules(random: Random) -> str:
    n = random.choice((2, 20, 500))
    width = random.choice((1, 2, 5))
    parts = ['"a"', "/[a-z]+/", '"b"?', '("c" | "dd")*', '"e"~1..50']
    lines = [f"r{i}: " + random.choice((" ", " | ")).join([f"r{i + 1}"] * width) for i in range(n)]
    return "\n".join([f"start: r0 {random.choice(parts)}", *lines, f"r{n}: {random.choice(parts)}"])


def _ambiguous(random: Random) -> str:
    return random.choice(
        (
            'start: start start | "a" | "b" start | ""',
            f'start: s{{{random.choice(_MANY)}}}\ns: s s | "a" |',
            f'start: ("a"|"b"|"ab"|"ba"){{{random.choice(_HUGE)}}}',
            'start: start "a" | start "b" |',
            "start: A*\nA: /a*/ | /a+b*/ | /[ab]{1,200}/",
            "start: a | b\na: b\nb: a",
            "start: A B C\nA: /.*/\nB: /.*/\nC: /.*/",
        )
    )


def _sets(random: Random) -> str:
    n = random.choice((2, 15, 60))
    patterns = [pattern(random)[:300].replace("/", "") for _ in range(n)]
    terms = " & ".join(f"/{one}/" for one in patterns)
    return f"start: A\nA: {random.choice(('', '~'))}({terms})"


def _around_json(random: Random) -> str:
    one = f"%json {json.dumps(schema(random))}"
    return random.choice(('start: "a" b\nb: ', 'start: b ("; " b)*\nb: ')) + one


def _nonsense(random: Random) -> str:
    return random.choice(
        (
            "",
            "start:",
            "start: nobody",
            "start: <|eot_id|>",
            "start: <[0]> | <[999999999]>",
            "%llguidance {}\nstart: /a/",
            '%llguidance {"no_forcing": true}\nstart: /a{5}/',
            "%import common.INT\nstart: INT",
            "start[max_tokens=1]: /a*/",
            'start[capture, temperature=2]: "a"',
            "start: %json {",
            "start: %lark { start: start }",
            "start: /(/",
            "start: " + "(" * 2000 + '"a"' + ")" * 2000,
            "start: " + '"a" | ' * 5000 + '"b"',
            'start: "' + "x" * 60_000 + '"',
            "\x00",
            "start: /\ud7ff\ue000/",
        )
    )


_LARK: tuple[Callable[[Random], str], ...] = (
    _terminal,
    _rules,
    _ambiguous,
    _sets,
    _around_json,
    _nonsense,
)
