// Calls the LLM server; knows its routes and what its answers look like, and nothing of the page.
// `llm` is the server: `{ llmUrl, apiKey }`, where the key may be missing.

import { once } from "node:events";

import { event, withoutSilence, wholeEvents } from "./events.js";
import { interrupted, notTheServer, timedOut, unreachable } from "./problem.js";

/** Milliseconds. The server ends every request in 280 s, and writes at least every 10 s. */
export const LIMITS = { health: 5_000, headers: 295_000, silence: 60_000 };

/** The server's /health as `{ status, body }`. Throws Problem. */
export async function fetchHealth(llm, limits) {
  const controller = new AbortController();
  const timer = abortAfter(controller, limits.health, llm);
  try {
    const answer = await ask(llm, "health", { signal: controller.signal });
    const body = await jsonOf(answer);
    if (typeof body?.state !== "string") throw notTheServer(llm.llmUrl, answer.status);
    return { status: answer.status, body };
  } catch (error) {
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Has `body` answered by /v1/chat/completions and writes the event stream to `response` as it
 * comes. When the browser closes `response`, the call is given up, which frees the engine's slot.
 *
 * Throws Problem before anything was written; behind that, an error is the stream's last event.
 */
export async function relayChat(llm, limits, body, response) {
  const controller = new AbortController();
  const browserGone = () => controller.abort(interrupted("the browser went away"));
  response.on("close", browserGone);
  if (response.destroyed) browserGone();
  try {
    const answer = await openChat(llm, limits, body, controller);
    if (answer.error) {
      sendError(response, answer.error);
      return;
    }
    await relayStream(answer.stream, limits, controller, response);
  } finally {
    controller.abort();
  }
}

/** The answer's head: `{ stream }`, or `{ error }` where the server refused. Throws Problem. */
async function openChat(llm, limits, body, controller) {
  const timer = abortAfter(controller, limits.headers, llm);
  try {
    const answer = await ask(llm, "v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal: controller.signal,
    });
    if (answer.ok) {
      const type = answer.headers.get("content-type") ?? "";
      if (!type.startsWith("text/event-stream")) throw notTheServer(llm.llmUrl, answer.status);
      return { stream: answer.body };
    }
    const said = await jsonOf(answer);
    if (typeof said?.error?.message !== "string") throw notTheServer(llm.llmUrl, answer.status);
    const retryAfter = answer.headers.get("retry-after");
    return { error: { status: answer.status, body: said, retryAfter } };
  } catch (error) {
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

async function relayStream(stream, limits, controller, response) {
  const { signal } = controller;
  response.writeHead(200, {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
  });
  response.flushHeaders();
  const silent = () => {
    controller.abort(interrupted(`nothing came for ${limits.silence / 1000} seconds`));
  };
  try {
    for await (const events of wholeEvents(withoutSilence(stream, limits.silence, silent))) {
      if (!response.write(events)) await once(response, "drain", { signal });
    }
  } catch (error) {
    if (response.destroyed) return;
    const problem = signal.aborted
      ? signal.reason
      : interrupted(`the connection to the LLM server broke (${error.cause?.code ?? error.message})`);
    response.write(event(problem.body()));
  }
  response.end();
}

function sendError(response, { status, body, retryAfter }) {
  const headers = { "Content-Type": "application/json", "Cache-Control": "no-store" };
  if (retryAfter) headers["Retry-After"] = retryAfter;
  response.writeHead(status, headers).end(JSON.stringify(body));
}

async function ask({ llmUrl, apiKey }, path, options) {
  const headers = { ...options.headers };
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  try {
    return await fetch(new URL(path, llmUrl), { ...options, headers, redirect: "manual" });
  } catch (error) {
    throw unreachable(llmUrl, error);
  }
}

/** The body's JSON; undefined where it is none. */
async function jsonOf(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function abortAfter(controller, ms, { llmUrl }) {
  return setTimeout(() => controller.abort(timedOut(llmUrl, ms)), ms);
}

