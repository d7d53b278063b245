"""Markdown as models write it, and pieces of it that are awkward when they come in parts."""

from __future__ import annotations

LONG = "wide" * 60

WHOLE = r"""# Title of *this* text

A paragraph with **bold text**, *emphasis*, ***both***, `code`, ~~gone~~ and a
[link to a page](https://example.com/a_b?c=1&d=2 "title") and <https://auto.example/x>.
It goes on, says 2 * 3 = 6, snake_case_name and https://bare.example.org/path_x.

## Lists

- one **bold** item
- two with `code`
  - nested *item*
    1. deeper
- [ ] to do
- [x] done

1. First

   A paragraph in it.

   ```python
   def f(x):
       return [x ** 2, "**"]
   ```

2. Second

```js
const a = [1, 2]; // **not bold**
console.log(`x ${a}`);
```

| Name | Value | Right |
|------|:-----:|------:|
| a    | **b** | 1 |
| `c`  | [x](https://e.example) | 2 |

> A quote with **bold**
> and a second line.
>
> - list in it

---

Math \(a_1 * b_2 * c\) and $x_1 * y_2 * z$ cost $5 and $6.

\[
x = \frac{a * b * c}{d_1}
- y
\]

![a picture](https://img.example/x.png) and a <b>tag</b> with R&D &amp; a<br>break.

Line with `half **code` and **bold with `code` in it** and a [**bold** link](https://x.example).

مرحبا **بالعالم** و[رابط](https://x.example).
"""
"""Of which no beginning shows what the whole text does not begin with."""

TEXTS = [
    "",
    "Plain words.",
    "Title\n=====\n\nOther\n---\n\ntext",
    "- a\n- b\n\n- c loose\n\n  more of c\n- d",
    "1. a\n2. b\n\n\n3. c\n\n   ```\n   x\n   ```\n\n   after",
    "* a\n  * b\n    * c\n\n      deep\n* d\n+ another list",
    "[early] and [early][] and [x][Early]\n\nmore\n\n[early]: https://x.example 'title'",
    "> [in quote]\n\n> [in quote]: https://x.example\n\n[in quote]",
    "[a]: https://x.example/1\n[a]: https://x.example/2\n\n[a]\n\ntext\n\n[a]",
    "A note[^1] here.\n\n[^1]: The note, with *words*.\n\nEnd.",
    "```\nunclosed **code**\n\nwith\n\nblank lines",
    "````md\n```js\nx\n```\n````\n\nafter",
    "~~~ruby\nputs 'x'\n~~~\nafter at once",
    '```js title="a"\nconst a = 1;\n```\n```py\nb = 2\n```',
    "    indented code\n\n    more of it\n\ntext",
    "| a | b |\n|---|---|\n| 1 | `|` |\n| 2 |\n\nafter",
    "a | b\n--|--\n1 | 2\ntext | more\n\n| not | a table |\n| at | all |",
    "|\n|-|\n||",
    "**bold\nover lines** and *em\nover lines*\n\n**never closed",
    "a**b**c a_b_c *a **b* c** ***x** y* __u__ _v_ ~~w~~ ~x~",
    "`a` ``b ` c`` ```d``` `e",
    "<details>\n<summary>x</summary>\n\n**inside**\n\n</details>",
    "<!-- a comment\n\nover blocks -->\n\nafter",
    "<script>\n\nx\n\n</script>\n\nafter",
    "a<br>b<br/>c <kbd>d</kbd> <a href='x'>e</a> https://x.example",
    "[x](https://x.example/(a)_b) [y](<https://y.example/a b>) [z](https://z.example 'q\"')",
    "[![p](https://p.example/p.png 'q')](https://l.example) ![r][s]\n\n[s]: https://s.example",
    "[broken](https://x.example and [half](\n\n[text] (not a link)",
    "www.x.example, a@b.example, <a@b.example> and http://x.example/?a=1&b=2&copy=3.",
    "\\*not\\* \\[a\\]\\(b\\) \\` \\\\ \\# &amp; &lt;b&gt; &#42; &copy; &nope;",
    "$$\na\n\nb\n$$\n\n$$c_1 * d$$ and \\[e\\] \\(f",
    "Cost: $5, $10 and $x_1$.\n\\begin{align}\na &= b \\\\\n\\end{align}",
    "---\n\n***\n\n___\n\n- - -\n\ntext\n---",
    "# a #\n## b\n####### seven\n#no\n#",
    "line one  \nline two\\\nline three",
    "text\n- list at once\n> quote at once\n# heading at once\n```\ncode\n```\ntext",
    "> a\nlazy\n> > b\nlazy\n\n> c\n>\n> ```js\n> d = 1\n> ```",
    "- [ ] a\n- [x] b\n\n  more\n- [ ]\n- [ ] **c**",
    "10. ten\n11. eleven\n\n1) one\n2) two\n\n- \n-\n- x",
    "tab\tin\ttext\n\n-\ta\n\n\tb\n\n\t\tcode",
    "a\r\nb\r\n\r\n- c\r\n- d\r\n\r\n```\r\ne\r\n```\r\n",
    "mixed \u05e9\u05dc\u05d5\u05dd\n\n- \u0645\u0631\u062d\u0628\u0627\n  - b\n\n\U0001f600\u200d\U0001f525 **\u4f60\u597d**\u3002",  # noqa: E501
    "\x00nul \u202eoverride\u202c \u200bzero\n\n```\n\x00\x1b[31m\n```",
    "\n\n\n  \n\nafter blank lines\n\n\n\n",
    "```__proto__\nx\n```\n\n[__proto__]: https://x.example\n\n[__proto__] [constructor]",
    "word " * 300 + "**end**",
    "".join(f"{i}. item **{i}**\n\n   text of it\n\n" for i in range(30)),
    "".join(f"## Part {i}\n\nText [ref] of *part* {i}.\n\n" for i in range(20))
    + "[ref]: https://x.example",
]

LANGUAGES = """
```html
<!-- comment --><!DOCTYPE html>
<div class="a" onclick="run()">Text &amp; more</div>
```

```css
@media (width > 1px) { #id .a[b="c"]:hover::before { color: #ff0000; --x: calc(1px + 2em); } }
```

```python
@decorator
class A(B):
    \"\"\"Doc.\"\"\"
    def f(self, x: int = 1) -> str:
        return f"{x!r}" + r"\\d" + str(None)
```

```js
/** @param {string} a */ import { b } from "c"; const d = /e+/g; class F extends G { h = `i ${j}`; }
```

```diff
- gone
+ new
@@ -1 +1 @@
```

```md
# Title
- item **bold** *em* [a](b) `c`
> quote
```

```bash
#!/bin/sh
for x in $(ls); do echo "$x" | grep -v y; done
```

```sql
SELECT count(*) AS n, 'x' FROM t WHERE a = 1.5 -- comment
```

```rust
#[derive(Debug)] fn main<'a>() -> Option<&'a str> { let x: u8 = 0xff; println!("{}", x); None }
```

```json
{"a": [1, true, null, "b"]}
```

```yaml
a: &b
  - 1 # comment
  - "c"
```

```cpp
#include <vector>
template <typename T> struct X { static constexpr int y = 'a'; }; // comment
```
"""
"""Code in which most kinds of colours are."""
