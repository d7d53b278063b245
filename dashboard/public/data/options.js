// The options of a conversation: what a person may set, its bounds, and presets. Pure.

/** What the server is asked with; an option that is not set is left to the server. */
export const SAMPLING = {
  temperature: { min: 0, max: 2, step: 0.05 },
  top_p: { min: 0.01, max: 1, step: 0.01 },
  min_p: { min: 0, max: 1, step: 0.01 },
  top_k: { min: 0, max: 1000, step: 1, whole: true },
  repeat_penalty: { min: 0.5, max: 2, step: 0.05 },
  max_output_tokens: { min: 1, max: 1_000_000, step: 1, whole: true },
  seed: { min: 0, max: 4_294_967_295, step: 1, whole: true },
};

export const MAX_SYSTEM = 100_000; // characters

/** The presets that are always there; `own` leaves all to the model's makers. */
export const PRESETS = {
  own: {},
  precise: { temperature: 0.2, top_p: 0.9 },
  balanced: { temperature: 0.7, top_p: 0.9 },
  creative: { temperature: 1, min_p: 0.05 },
};

const OF_PRESETS = ["temperature", "top_p", "min_p", "top_k", "repeat_penalty"];

/** The number in a field; null for an empty one, undefined for none that is allowed. */
export function readNumber(name, text) {
  if (text.trim() === "") return null;
  const { min, max, whole = false } = SAMPLING[name];
  const value = Number(text.replace(",", "."));
  const right = Number.isFinite(value) && value >= min && value <= max;
  return right && (!whole || Number.isInteger(value)) ? value : undefined;
}

/** Options with only what is known and allowed in them, such as those of a file. */
export function cleanOptions(given) {
  const found = {};
  if (typeof given !== "object" || given === null) return found;
  if (typeof given.system === "string" && given.system.trim() !== "") {
    found.system = given.system.slice(0, MAX_SYSTEM);
  }
  for (const name of Object.keys(SAMPLING)) {
    if (typeof given[name] !== "number") continue;
    const value = readNumber(name, String(given[name]));
    if (value !== undefined) found[name] = value;
  }
  return found;
}

/** Which preset these options are; null for none of them. */
export function presetOf(options, presets = PRESETS) {
  const same = ([, preset]) => OF_PRESETS.every((name) => preset[name] === options[name]);
  return Object.entries(presets).find(same)?.[0] ?? null;
}

/** The options with the sampling of a preset. */
export function withPreset(options, preset) {
  const next = { ...options };
  for (const name of OF_PRESETS) delete next[name];
  for (const name of OF_PRESETS) {
    if (preset[name] !== undefined) next[name] = preset[name];
  }
  return next;
}

/** The fields of /v1/responses for these options. */
export function fieldsOf(options) {
  const { system, ...sampling } = cleanOptions(options);
  return system ? { instructions: system, ...sampling } : sampling;
}
