// Calls of the dashboard's backend; knows routes and JSON, and nothing of the page.

import { chunksOf, eventData } from "./sse.js";

// What Meta sets for Llama 3.2 Instruct, in its generation_config.json; the API's own default of 1
// makes a small model ramble.
const SAMPLING = { temperature: 0.6, top_p: 0.9 };

/** An error as the server words it: `message`, `code`, the HTTP `status` and, in seconds,
 * `retryAfter`, which are null where there are none. */
export class ServerError extends Error {
  constructor({ message, code }, status = null, retryAfter = null) {
    super(message);
    this.code = code ?? null;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The model's health, or `{ state: "offline", reason, code }` where nobody could be asked. */
export async function fetchHealth() {
  let body;
  try {
    const answer = await fetch("api/health", { cache: "no-store" });
    body = await answer.json();
  } catch {
    body = { error: backendGone() };
  }
  const { error } = body;
  return error ? { state: "offline", reason: error.message, code: error.code } : body;
}

/**
 * The chunks of an answer, as OpenAI shapes them. Where the context is full, the server leaves out
 * the oldest messages and says how many. Throws ServerError; when `signal` stops it, an
 * AbortError.
 */
export async function* streamChat(messages, signal) {
  const answer = await reach(() =>
    fetch("api/chat", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ messages, truncation: "trim", return_progress: true, ...SAMPLING }),
      signal,
    }),
  );
  if (!answer.ok) throw await refusal(answer);
  const events = eventData(chunksOf(answer.body));
  for (;;) {
    const { done, value } = await reach(() => events.next());
    if (done) break;
    if (value === "[DONE]") return;
    const chunk = JSON.parse(value);
    if (chunk.error) throw new ServerError(chunk.error);
    yield chunk;
  }
  throw new ServerError({ message: "The answer ended early.", code: "stream_interrupted" });
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

/** What `call` gives; a network error becomes a ServerError. */
async function reach(call) {
  try {
    return await call();
  } catch (error) {
    throw error.name === "AbortError" ? error : backendGone();
  }
}

function backendGone() {
  return new ServerError({
    message: "The dashboard's backend cannot be reached. Is it running?",
    code: "dashboard_unreachable",
  });
}
