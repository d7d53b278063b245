// Reads Prometheus' text format; knows nothing of what the series mean.

const LINE = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*$/;
const LABEL = /\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)/y;
const SPECIAL = new Map([
  ["+Inf", Infinity],
  ["-Inf", -Infinity],
]);
const ESCAPED = new Map([["n", "\n"]]);

/** The series by name, each a list of `{ labels, value }`. Throws SyntaxError. */
export function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const [, name, labels = "", number] = LINE.exec(line) ?? [];
    const value = SPECIAL.get(number) ?? Number(number);
    if (name === undefined || (Number.isNaN(value) && number !== "NaN")) throw wrong(line);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels: parseLabels(labels, line), value });
  }
  return found;
}

function parseLabels(text, line) {
  const labels = new Map();
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const [whole, name, value] = LABEL.exec(text) ?? [];
    if (whole === undefined) throw wrong(line);
    labels.set(
      name,
      value.replace(/\\(.)/g, (_, letter) => ESCAPED.get(letter) ?? letter),
    );
  }
  return labels;
}

function wrong(line) {
  return new SyntaxError(`This is no line of metrics: ${line.slice(0, 100)}`);
}
