// A scripted LLM server, a dashboard before it on free ports, and browsers that keep their cookie.

import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";

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

/**
 * A dashboard for an LLM server that answers each request with `script(request, response)`. Without
 * a script, nobody may ask it. `settings` are those of config.js.
 */
export async function dashboardFor(t, script = unasked, { limits, ...settings } = {}) {
  const upstream = await listen(t, createServer(script));
  return dashboardAt(t, `${upstream}/`, { limits, ...settings });
}

export function dashboardAt(t, llmUrl, { limits, sampler, ...settings } = {}) {
  const all = { host: "127.0.0.1", llmUrl: new URL(llmUrl), ...settings };
  return listen(t, createDashboard(all, limits, sampler));
}

function unasked(request, response) {
  response.writeHead(500).end(`the LLM server was asked for ${request.url}`);
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

/** A browser at a dashboard: keeps its cookie, sends objects as JSON, follows no redirect. */
export function browserAt(url) {
  const browser = { cookie: "", ask };
  return browser;

  async function ask(method, path, body, { headers, ...options } = {}) {
    const answer = await fetch(url + path, {
      method,
      headers: {
        ...(browser.cookie && { Cookie: browser.cookie }),
        ...(body !== undefined && { "Content-Type": "application/json" }),
        ...headers,
      },
      body: typeof body === "object" ? JSON.stringify(body) : body,
      redirect: "manual",
      ...options,
    });
    const given = answer.headers.get("set-cookie");
    if (given !== null) browser.cookie = given.split(";", 1)[0];
    return answer;
  }
}

export const REQUEST = { key: "k", request: { input: "¿Qué?" } };

/** POST /api/responses, as a browser that comes for the first time. */
export function postResponse(url, body = REQUEST, options = {}) {
  return browserAt(url).ask("POST", "/api/responses", body, options);
}

/** A request whose path and headers are sent as they are; its status. */
export async function raw(url, path, { method = "GET", ...headers } = {}) {
  const { port } = new URL(url);
  const sent = httpRequest({ host: "127.0.0.1", port, path, method, headers });
  sent.end();
  const [response] = await once(sent, "response");
  response.resume();
  return response.statusCode;
}

export async function errorOf(answer) {
  const { error } = await answer.json();
  return error;
}

export function sendJson(response, body, status = 200) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
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
