// The password: makes the sessions' key of it, and compares guesses. Forgets the password itself.

import { scrypt, scryptSync, timingSafeEqual } from "node:crypto";

const BYTES = 32;
const COST = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };
// The same in every process, so that a backend that starts again knows its sessions.
const SALT = "sheily-dashboard";
const MOST_WAITING = 8;

export class Password {
  constructor(text) {
    this.key = scryptSync(normal(text), SALT, BYTES, COST);
    this.waiting = 0;
    this.last = Promise.resolve();
  }

  /** Whether there is no room for a guess: each takes memory and time, so they go one by one. */
  get busy() {
    return this.waiting >= MOST_WAITING;
  }

  async is(guess) {
    this.waiting += 1;
    const made = this.last.then(() => derived(guess));
    this.last = made.catch(() => {});
    try {
      return timingSafeEqual(await made, this.key);
    } finally {
      this.waiting -= 1;
    }
  }
}

function derived(guess) {
  return new Promise((resolve, reject) => {
    scrypt(normal(guess), SALT, BYTES, COST, (error, key) => {
      if (error) reject(error);
      else resolve(key);
    });
  });
}

/** Keyboards write the same letter in several ways. */
function normal(text) {
  return text.normalize("NFC");
}
