// Numbers, times and shares as the reader writes them; knows no metric.

import { number } from "../shared/language.js";

export class Text {
  /** `wanted` are the browser's languages: one of them may say more than "en" or "es" does. */
  constructor(language, wanted = navigator.languages) {
    this.locale = wanted.find((each) => each.slice(0, 2).toLowerCase() === language) ?? language;
  }

  number(value, digits = 0) {
    return number(this.locale, value, digits);
  }

  /** With one digit where that is more than noise. */
  rate(value) {
    return this.number(value, value < 100 && value > 0 ? 1 : 0);
  }

  /** Short, for an axis that goes up to `most`. */
  tick(value, most) {
    const compact = most >= 10_000 ? { notation: "compact" } : {};
    return value.toLocaleString(this.locale, { maximumFractionDigits: 1, ...compact });
  }

  /** Of 1. */
  share(value) {
    return value.toLocaleString(this.locale, { style: "percent", maximumFractionDigits: 0 });
  }

  seconds(value) {
    const maximumFractionDigits = value < 1 ? 2 : 1;
    return `${value.toLocaleString(this.locale, { maximumFractionDigits })}\u00a0s`;
  }

  /** A moment, in seconds since 1970. */
  time(moment, second = true) {
    const options = { hour: "numeric", minute: "2-digit", ...(second && { second: "2-digit" }) };
    return new Date(1000 * moment).toLocaleTimeString(this.locale, options);
  }
}
