// Calls the LLM server; knows what its answers look like, and nothing of the page.
// `llm` is the server: `{ llmUrl, apiKey }`, where the key may be missing.

import { notTheServer, Problem, Refusal, timedOut, unreachable } from "./problem.js";

/**
 * Milliseconds. The server ends every request in 280 s, writes to a stream at least every 10 s, and
 * drops a reader who takes nothing for 60 s.
 */
export const LIMITS = {
  health: 5_000,
  call: 30_000,
  headers: 295_000,
  silence: 60_000,
  unread: 60_000,
};

/** The JSON value that the server answers with. Throws Problem; a Refusal where it refuses. */
export async function call(llm, ms, path, { method = "GET", body } = {}) {
  const { answer, text } = await within(llm, ms, new AbortController(), async (signal) => {
    const answer = await ask(llm, path, { method, body, signal });
    return { answer, text: await answer.text() };
  });
  const said = json(text);
  if (!answer.ok) throw refusal(llm, answer, said);
  if (said === undefined) throw notTheServer(llm.llmUrl, answer.status);
  return said;
}

/** The server's /health as `{ status, body }`. Throws Problem. */
export async function fetchHealth(llm, limits) {
  const { status, text } = await fetchText(llm, limits.health, "health");
  const body = json(text);
  if (typeof body?.state !== "string") throw notTheServer(llm.llmUrl, status);
  return { status, body };
}

/** A text of the server, as `{ status, text }`. Throws Problem. */
export function fetchText(llm, ms, path) {
  return within(llm, ms, new AbortController(), async (signal) => {
    const answer = await ask(llm, path, { signal });
    return { status: answer.status, text: await answer.text() };
  });
}

/** An event stream's bytes. Once `controller` aborts, so do they. Throws as `call`. */
export function openStream(llm, limits, controller, path, { method = "GET", body, headers } = {}) {
  return within(llm, limits.headers, controller, async (signal) => {
    const accept = { Accept: "text/event-stream", ...headers };
    const answer = await ask(llm, path, { method, body, headers: accept, signal });
    if (!answer.ok) throw refusal(llm, answer, json(await answer.text()));
    const type = answer.headers.get("content-type") ?? "";
    if (!type.startsWith("text/event-stream")) throw notTheServer(llm.llmUrl, answer.status);
    return answer.body;
  });
}

/** Runs `work` with a signal that aborts after `ms`. Throws Problem, the signal's reason. */
async function within(llm, ms, controller, work) {
  const { signal } = controller;
  const timer = setTimeout(() => controller.abort(timedOut(llm.llmUrl, ms)), ms);
  try {
    return await work(signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw error instanceof Problem ? error : unreachable(llm.llmUrl, error);
  } finally {
    clearTimeout(timer);
  }
}

async function ask({ llmUrl, apiKey }, path, { method, body, headers, signal }) {
  const sent = { ...headers };
  if (apiKey) sent.Authorization = `Bearer ${apiKey}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  try {
    return await fetch(new URL(path, llmUrl), {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      redirect: "manual",
      signal,
    });
  } catch (error) {
    throw unreachable(llmUrl, error);
  }
}

function refusal({ llmUrl }, answer, said) {
  if (typeof said?.error?.message !== "string") return notTheServer(llmUrl, answer.status);
  const seconds = answer.headers.get("retry-after");
  return new Refusal(answer.status, said, seconds === null ? {} : { "Retry-After": seconds });
}

/** The value of a JSON text; undefined where it is none. */
function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
