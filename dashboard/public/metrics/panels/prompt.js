// How many tokens of prompts were read a second, and how many of them the cache had, in memory or on
// disk.

import { bins, growth } from "../figures.js";

const computed = (sample) => sample.prompt - sample.cached;
const cached = (sample) => sample.cached;
const onDisk = (sample) => sample.disk ?? 0;
const inMemory = (sample) => sample.cached - onDisk(sample);

export const prompt = {
  id: "prompt",
  draw: ({ samples, binS }) => {
    const { x, values } = bins(samples, binS, [computed, inMemory, onDisk]);
    const [ofModel, ofMemory, ofDisk] = values.map((each) => each.map((n) => n && n / binS));
    return {
      x,
      spanS: binS,
      stacked: true,
      series: [
        { name: "computed", values: ofModel, colour: 1 },
        { name: "cached", values: ofMemory, colour: 2 },
        { name: "disk", values: ofDisk, colour: 3 },
      ],
    };
  },
  say: ({ samples }, words, text) => {
    const [ofModel, ofCache] = [computed, cached].map((count) => growth(samples, count));
    const all = ofModel + ofCache;
    if (all === 0) return words.promptNone;
    const said = words.prompt(text.number(all), text.number(ofCache), text.share(ofCache / all));
    const ofDisk = growth(samples, onDisk);
    return ofDisk === 0 ? said : `${said} ${words.promptDisk(text.number(ofDisk))}`;
  },
};
