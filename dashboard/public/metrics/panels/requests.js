// How many requests have a slot, wait for one, or go on in the background.

import { most, values } from "../figures.js";

const NAMES = ["running", "queued", "background"];

export const requests = {
  id: "requests",
  draw: ({ samples }) => {
    const of = (name) => values(samples, (sample) => sample[name]);
    return {
      x: samples.map(({ t }) => t / 1000),
      whole: true,
      series: [
        { name: "running", values: of("running"), colour: 1, area: true },
        { name: "queued", values: of("queued"), colour: 3, dash: true },
        { name: "background", values: of("background"), colour: 2 },
      ],
    };
  },
  say: ({ samples }, words, text) => {
    const last = samples.at(-1);
    if (!last?.up) return words.nothingNow;
    const [running, queued] = NAMES.map((name) => ({
      now: text.number(last[name] ?? 0),
      most: text.number(most(values(samples, (sample) => sample[name])) ?? 0),
    }));
    return words.requests(running, queued);
  },
};
