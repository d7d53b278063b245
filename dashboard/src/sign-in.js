// /api/session: who is signed in, signing in and out. Knows no other route.

import { Guesses } from "./guesses.js";
import { allow, readJson, sendJson } from "./http.js";
import { Password } from "./password.js";
import { invalid, Problem } from "./problem.js";
import { Sessions } from "./sessions.js";

const MAX_BODY_BYTES = 4096;
const LOGIN = "/login.html";
const METRICS = "/metrics.html";

/** Without a password everybody is signed in, each browser as itself. */
export class SignIn {
  constructor(password, now = () => Date.now()) {
    this.password = password ? new Password(password) : null;
    this.sessions = new Sessions(this.password?.key, now);
    this.guesses = new Guesses(now);
  }

  /** The session of a request, which without a password may begin now. Throws Problem. */
  sessionOf(request, response) {
    const session = this.found(request, response);
    if (session) return session;
    if (this.password === null) return this.sessions.give(request, response);
    throw new Problem(401, "sign_in_needed", "Sign in first: this dashboard has a password.");
  }

  /** The session of a request, or undefined. An old cookie is given anew, so that use keeps it. */
  found(request, response) {
    const session = this.sessions.of(request);
    return session?.stale ? this.sessions.give(request, response, session) : session;
  }

  /** Where a browser that asks for a page has to go first; undefined for nowhere else. */
  elsewhere(page, request, response) {
    const session = this.found(request, response);
    if (this.password === null) this.sessions.give(request, response, session);
    const signedIn = this.password === null || session !== undefined;
    if (page === LOGIN) return signedIn ? "/" : undefined;
    if (signedIn) return undefined;
    return page === METRICS ? `${LOGIN}?to=${METRICS}` : LOGIN;
  }

  async handle(request, response) {
    allow(request, "GET", "POST", "DELETE");
    if (request.method === "GET") {
      const signedIn = this.password === null || this.found(request, response) !== undefined;
      sendJson(response, 200, { password: this.password !== null, signed_in: signedIn });
      return;
    }
    if (request.method === "DELETE") this.sessions.end(request, response);
    else await this.begin(request, response);
    response.writeHead(204, { "Cache-Control": "no-store" }).end();
  }

  async begin(request, response) {
    const { password } = await readJson(request, MAX_BODY_BYTES);
    if (typeof password !== "string") throw invalid("password is a text.", "password");
    if (this.password !== null) await this.check(password, request.socket.remoteAddress);
    this.sessions.give(request, response, this.sessions.of(request));
  }

  async check(guess, address) {
    if (this.password.busy) throw tooManyGuesses(1);
    const wait = this.guesses.take(address);
    if (wait > 0) throw tooManyGuesses(Math.ceil(wait / 1000));
    if (!(await this.password.is(guess))) {
      throw new Problem(401, "wrong_password", "This is not the password.");
    }
    this.guesses.forgive(address);
  }
}

function tooManyGuesses(seconds) {
  const message = `Too many wrong passwords. The next one counts in ${seconds} s.`;
  return new Problem(429, "too_many_guesses", message, {
    headers: { "Retry-After": String(seconds) },
  });
}
