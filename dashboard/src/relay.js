// Passes an event stream of the LLM server on to a browser; knows nothing of what the events mean.

import { once } from "node:events";

import { event, withoutSilence, wholeEvents } from "./events.js";
import { interrupted } from "./problem.js";
import { openStream } from "./upstream.js";

/**
 * Opens the stream at `path`, as upstream.openStream does, and writes it to `response` as it comes.
 * A browser that closes `response` ends the call.
 *
 * Throws Problem before anything was written; behind that, an error is the stream's last event.
 */
export async function relay({ llm, limits }, response, path, options) {
  const controller = new AbortController();
  const browserGone = () => controller.abort(interrupted("the browser went away"));
  response.on("close", browserGone);
  if (response.destroyed) browserGone();
  try {
    const stream = await openStream(llm, limits, controller, path, options);
    await passOn(stream, limits, controller, response);
  } finally {
    controller.abort();
  }
}

async function passOn(stream, limits, controller, response) {
  const { signal } = controller;
  response.writeHead(200, {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
  });
  response.flushHeaders();
  const silent = () => {
    controller.abort(interrupted(`nothing came for ${limits.silence / 1000} seconds`));
  };
  try {
    for await (const events of wholeEvents(withoutSilence(stream, limits.silence, silent))) {
      if (!response.write(events)) await drained(response, limits.unread, signal);
    }
  } catch (error) {
    if (response.destroyed) return;
    const why = error.cause?.code ?? error.message;
    const problem = signal.aborted
      ? signal.reason
      : interrupted(`the connection to the LLM server broke (${why})`);
    response.write(event(problem.body()));
  }
  response.end();
}

/** Waits until the browser has taken what was written; one that takes nothing is cut off. */
async function drained(response, ms, signal) {
  const timer = setTimeout(() => response.destroy(), ms);
  try {
    await once(response, "drain", { signal });
  } finally {
    clearTimeout(timer);
  }
}
