// Formulas stay the text that they are: what is between $…$, $$…$$, \(…\) or \[…\] is no Markdown, as
// extensions of marked's. Nothing draws them.

const LONGEST = 2_000; // characters of a formula
const HALF = { "$$": /^\$\$[^]*$/, "\\(": /^\\\([^]*$/, "\\[": /^\\\[[^]*$/ };
const INLINE = [
  /^\\\((?:[^\\]|\\[^)])*?\\\)/,
  /^\\\[(?:[^\\]|\\[^\]])*?\\\]/,
  /^\$\$[^$]+\$\$/,
  // As in pandoc, so that $5 and $6 are no formula.
  /^\$(?=[^\s$])(?:[^$\n\\]|\\[^\n]){0,500}?[^\s$\\]\$(?!\d)/,
];
const BLOCK = [/^\$\$[^$]+\$\$[ \t]*(?:\n|$)/, /^\\\[(?:[^\\]|\\[^\]])*?\\\][ \t]*(?:\n|$)/];

/** The extensions. While a text comes, a formula may lack its end. */
export function mathExtensions(streaming) {
  return {
    inline: [(src) => token("escape", formula(src, INLINE, streaming))],
    startInline: [(src) => src.search(/\$|\\[([]/)],
    block: [(src) => token("html", formula(src, BLOCK, streaming))],
  };
}

/** The formula that a text begins with, if it does. */
function formula(src, patterns, streaming) {
  if (src[0] !== "$" && src[0] !== "\\") return undefined;
  const near = src.slice(0, LONGEST);
  const whole = patterns.map((pattern) => pattern.exec(near)?.[0]).find(Boolean);
  const half = streaming && near === src ? HALF[src.slice(0, 2)]?.exec(src)?.[0] : undefined;
  const raw = whole ?? half;
  return raw && !/\n\s*\n/.test(raw) ? raw : undefined;
}

/** A token that is shown as its text. */
function token(type, raw) {
  return raw && { type, raw, text: raw, block: type === "html" };
}
