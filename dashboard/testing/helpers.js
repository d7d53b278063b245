// A scripted LLM server and a dashboard before it, on free ports.

import { once } from "node:events";
import { createServer } from "node:http";

import { createDashboard } from "../src/dashboard.js";

/** Starts `server` on a free port; its URL. It is closed when the test `t` ends. */
export async function listen(t, server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** A dashboard for an LLM server that answers each request with `script(request, response)`. */
export async function dashboardFor(t, script, limits = {}, apiKey = "") {
  const upstream = await listen(t, createServer(script));
  return dashboardAt(t, `${upstream}/`, limits, apiKey);
}

export function dashboardAt(t, llmUrl, limits = {}, apiKey = "") {
  return listen(t, createDashboard({ host: "127.0.0.1", llmUrl: new URL(llmUrl), apiKey }, limits));
}

/** The URL of a port that nobody listens on. */
export async function closedUrl() {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return `http://127.0.0.1:${port}/`;
}

export function postChat(url, body = { messages: [] }, options = {}) {
  return fetch(`${url}/api/chat`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...options,
  });
}

export function beginStream(response) {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  response.flushHeaders();
}

export async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks));
}

/** A promise with the function that fulfils it. */
export function promise() {
  let resolve;
  const made = new Promise((done) => {
    resolve = done;
  });
  return { made, resolve };
}
