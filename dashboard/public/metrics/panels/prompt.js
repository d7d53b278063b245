// How many tokens of prompts were read a second, and how many of them the cache had.

import { bins, growth } from "../figures.js";

const computed = (sample) => sample.prompt - sample.cached;
const cached = (sample) => sample.cached;

export const prompt = {
  id: "prompt",
  draw: ({ samples, binS }) => {
    const { x, values } = bins(samples, binS, [computed, cached]);
    const [ofModel, ofCache] = values.map((each) => each.map((n) => n && n / binS));
    return {
      x,
      spanS: binS,
      stacked: true,
      series: [
        { name: "computed", values: ofModel, colour: 1 },
        { name: "cached", values: ofCache, colour: 2 },
      ],
    };
  },
  say: ({ samples }, words, text) => {
    const [ofModel, ofCache] = [computed, cached].map((count) => growth(samples, count));
    const all = ofModel + ofCache;
    if (all === 0) return words.promptNone;
    return words.prompt(text.number(all), text.number(ofCache), text.share(ofCache / all));
  },
};
