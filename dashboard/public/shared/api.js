// Calls of the dashboard's backend; knows routes, JSON and errors, and nothing of a page.

import { chunksOf, eventData } from "./sse.js";

/** An error as the servers word it: `message`, `code`, the HTTP `status` and, in seconds,
 * `retryAfter`, which are null where there are none. */
export class ServerError extends Error {
  constructor({ message, code, param }, status = null, retryAfter = null) {
    super(message);
    this.code = code ?? null;
    this.param = param ?? null;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** What can be kept of it as JSON. */
  plain() {
    const { message, code, param, status, retryAfter } = this;
    return { message, code, param, status, retryAfter };
  }
}

/** The body of an answer, or null where it has none. Throws ServerError. */
export async function call(path, { method = "GET", body, signal, keepalive = false } = {}) {
  const answer = await send(path, { method, body, signal, keepalive });
  if (!answer.ok) throw await refusal(answer);
  return answer.status === 204 ? null : reach(() => answer.json());
}

/** The model's health, or `{ state: "offline", reason, code }` where nobody could be asked. */
export async function fetchHealth() {
  let body;
  try {
    const answer = await send("api/health");
    body = await answer.json();
  } catch (error) {
    body = { error: error instanceof ServerError ? error : gone() };
  }
  const { error } = body;
  return error ? { state: "offline", reason: error.message, code: error.code } : body;
}

/**
 * The events of a response as objects, in their order, until the stream ends. A stream that ends
 * without a last event throws `stream_interrupted`. Throws ServerError; when `signal` stops it, an
 * AbortError.
 */
export async function* responseEvents(path, { body, signal } = {}) {
  const answer = await send(path, { method: body ? "POST" : "GET", body, signal });
  if (!answer.ok) throw await refusal(answer);
  const events = eventData(chunksOf(answer.body));
  for (;;) {
    const { done, value } = await reach(() => events.next());
    if (done) break;
    const event = JSON.parse(value);
    if (event.error) throw new ServerError(event.error); // the backend's, not the response's
    yield event;
    if (LAST.has(event.type)) return;
  }
  throw new ServerError({ message: "The stream ended early.", code: "stream_interrupted" });
}

/** The events that no other follows. */
const LAST = new Set([
  "response.completed",
  "response.incomplete",
  "response.failed",
  "error", // a stream that is too long to be kept
]);

async function send(path, { method = "GET", body, signal, keepalive = false } = {}) {
  const options = { method, signal, keepalive, cache: "no-store", headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await reach(() => fetch(path, options));
  if (answer.status === 401) await leaveIfSignedOut(answer.clone());
  return answer;
}

/** A session that ended needs the password; the page begins again behind it. */
async function leaveIfSignedOut(answer) {
  const { error } = await answer.json().catch(() => ({}));
  if (error?.code === "sign_in_needed") location.assign("login.html");
}

async function refusal(answer) {
  const retryAfter = Number(answer.headers.get("Retry-After")) || null;
  try {
    const { error } = await answer.json();
    return new ServerError(error, answer.status, retryAfter);
  } catch {
    const message = `The dashboard answered with status ${answer.status}.`;
    return new ServerError({ message, code: "bad_response" }, answer.status, retryAfter);
  }
}

/** What `request` gives; a network error becomes a ServerError. */
async function reach(request) {
  try {
    return await request();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw gone();
  }
}

function gone() {
  return new ServerError({
    message: "The dashboard's backend cannot be reached. Is it running?",
    code: "dashboard_unreachable",
  });
}
