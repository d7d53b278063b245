// How fast tokens come, of all answers together.

import { least, most, rates } from "../figures.js";

export const generated = {
  id: "generated",
  draw: ({ samples }) => ({
    x: samples.map(({ t }) => t / 1000),
    series: [{ name: "generated", values: speeds(samples), colour: 1, area: true }],
  }),
  say: ({ samples }, words, text) => {
    const known = speeds(samples).filter((each) => each !== null);
    if (known.length === 0) return words.nothing;
    const now = samples.at(-1).up ? text.rate(known.at(-1)) : null;
    return words.generated(now, text.rate(least(known)), text.rate(most(known)));
  },
};

/** Tokens a second now; null where it is not known. */
export function speedNow(samples) {
  return speeds(samples.slice(-2)).at(-1) ?? null;
}

function speeds(samples) {
  return rates(samples, ({ tokens }) => tokens);
}
