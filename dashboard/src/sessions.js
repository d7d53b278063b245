// Whose a request is: a session's cookie, its id, and the name that the LLM server hears.

import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

const DAYS = 24 * 60 * 60;
const LASTS_S = 30 * DAYS;
const RENEWED_S = DAYS;
const ID = /^[A-Za-z0-9_-]{22}$/;
const SIGNED = /^([A-Za-z0-9_-]{22})\.(\d{1,12})\.([A-Za-z0-9_-]{43})$/;

/**
 * Without a key, whoever asks gets a session. With one, a session is what the key has signed, and
 * lasts for 30 days after its last use: nothing is kept, so a backend that starts again with the
 * same key knows its sessions, and one with another key knows none.
 */
export class Sessions {
  constructor(key = null, now = () => Date.now()) {
    this.key = key;
    this.seconds = () => Math.floor(now() / 1000);
  }

  /** The session of a request; undefined without one. `stale` says that its cookie is old. */
  of(request) {
    const text = cookie(request);
    if (text === undefined) return undefined;
    if (this.key === null) return ID.test(text) ? sessionWith(text) : undefined;
    const [, id, issued, signature] = SIGNED.exec(text) ?? [];
    if (id === undefined || !same(signature, this.signature(id, issued))) return undefined;
    const age = this.seconds() - Number(issued);
    if (age > LASTS_S) return undefined;
    return { ...sessionWith(id), stale: age > RENEWED_S };
  }

  /** Gives the browser a session, or anew the one that it has. */
  give(request, response, { id } = sessionWith(randomBytes(16).toString("base64url"))) {
    const issued = String(this.seconds());
    const value = this.key === null ? id : `${id}.${issued}.${this.signature(id, issued)}`;
    response.setHeader("Set-Cookie", setCookie(request, value, LASTS_S));
    return sessionWith(id);
  }

  end(request, response) {
    response.setHeader("Set-Cookie", setCookie(request, "", 0));
  }

  signature(id, issued) {
    return createHmac("sha256", this.key).update(`${id}.${issued}`).digest("base64url");
  }
}

/** `id` is the cookie's secret; `user` can be shown to anyone. */
function sessionWith(id) {
  const hash = createHash("sha256").update(id).digest("hex");
  return { id, user: `dashboard-${hash.slice(0, 24)}`, stale: false };
}

function same(one, other) {
  return timingSafeEqual(Buffer.from(one), Buffer.from(other));
}

/** Cookies are shared by all ports of a machine, so the name has the port. */
function nameOf(request) {
  return `sheily-dashboard-${request.socket.localPort}`;
}

function setCookie(request, value, seconds) {
  return `${nameOf(request)}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict`;
}

function cookie(request) {
  const begin = `${nameOf(request)}=`;
  for (const each of (request.headers.cookie ?? "").split(";")) {
    const text = each.trim();
    if (text.startsWith(begin)) return text.slice(begin.length);
  }
  return undefined;
}
