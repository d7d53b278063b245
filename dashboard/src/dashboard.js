// The HTTP server for the page: which route does what, and for whom. It holds no conversation.

import { createServer } from "node:http";

import { fileOf } from "./files.js";
import { Guard } from "./guard.js";
import { allow, readJson, sendJson, sendProblem } from "./http.js";
import { Sampler } from "./metrics.js";
import { policyOf, SECURITY_HEADERS } from "./policy.js";
import { invalid, Problem } from "./problem.js";
import * as responses from "./responses.js";
import { SignIn } from "./sign-in.js";
import { call, fetchHealth, LIMITS } from "./upstream.js";

const RESPONSE = /^\/api\/responses\/([^/]+)(\/events|\/cancel)?$/;
const PAGES = new Set(["/", "/index.html", "/metrics.html", "/login.html"]);

/** A server that does not listen yet, with config.js's settings. The caller has `sampler` run. */
export function createDashboard(settings, limits = {}, sampler = new Sampler(settings)) {
  const context = {
    llm: settings,
    sampler,
    limits: { ...LIMITS, ...limits },
    guard: new Guard(settings.host, settings.allowedHosts),
    signIn: new SignIn(settings.password, settings.now),
  };
  const server = createServer((request, response) => {
    response.on("error", () => {}); // the browser went away; "close" follows
    respond(context, request, response).catch((error) => sendProblem(request, response, error));
  });
  server.headersTimeout = 20_000;
  server.requestTimeout = 60_000;
  server.maxConnections = 512;
  return server;
}

async function respond(context, request, response) {
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
  context.guard.check(request);
  const [path, query = ""] = request.url.split("?", 2);
  if (path === "/api/session") await context.signIn.handle(request, response);
  else if (path.startsWith("/api/")) await respondApi(context, path, query, request, response);
  else await respondFile(context, path, request, response);
}

async function respondApi(context, path, query, request, response) {
  const session = context.signIn.sessionOf(request, response);
  const [, id, part] = RESPONSE.exec(path) ?? [];
  if (path === "/api/health") {
    allow(request, "GET");
    const { status, body } = await fetchHealth(context.llm, context.limits);
    sendJson(response, status, body);
  } else if (path === "/api/metrics") {
    allow(request, "GET");
    sendJson(response, 200, context.sampler.since(timeIn(query)));
  } else if (path === "/api/tokens") {
    allow(request, "POST");
    sendJson(response, 200, await countTokens(context, await readJson(request)));
  } else if (path === "/api/responses") {
    allow(request, "POST");
    await responses.makeResponse(context, session, await readJson(request), response);
  } else if (part === "/events") {
    allow(request, "GET");
    const after = new URLSearchParams(query).get("after");
    await responses.followResponse(context, session, id, after, response);
  } else if (part === "/cancel") {
    allow(request, "POST");
    sendJson(response, 200, await responses.cancelResponse(context, session, id));
  } else if (id !== undefined) {
    allow(request, "GET", "DELETE");
    const erases = request.method === "DELETE";
    const work = erases ? responses.deleteResponse : responses.fetchResponse;
    sendJson(response, 200, await work(context, session, id));
  } else {
    throw notFound(path);
  }
}

/** The `after` of a query, a time; 0 without it. */
function timeIn(query) {
  const after = new URLSearchParams(query).get("after") ?? "0";
  if (!/^\d{1,15}$/.test(after)) throw invalid("after is a time in milliseconds.", "after");
  return Number(after);
}

async function countTokens({ llm, limits }, { content }) {
  if (typeof content !== "string") throw invalid("content is a text.", "content");
  const path = "v1/tokenize";
  const { count } = await call(llm, limits.call, path, { method: "POST", body: { text: content } });
  return { count };
}

/** A file is no secret; a page begins a session, or is asked for the password. */
async function respondFile({ signIn }, path, request, response) {
  const file = await fileOf(path);
  if (!file) throw notFound(path);
  allow(request, "GET", "HEAD");
  const elsewhere = PAGES.has(path) ? signIn.elsewhere(path, request, response) : undefined;
  if (elsewhere === undefined) {
    sendFile(file, request, response);
  } else {
    response.writeHead(302, { Location: elsewhere, "Cache-Control": "no-store" }).end();
  }
}

function sendFile({ type, bytes, tag }, request, response) {
  response.setHeader("Cache-Control", "no-cache");
  response.setHeader("ETag", tag);
  if (type.startsWith("text/html")) {
    response.setHeader("Content-Security-Policy", policyOf(bytes));
  }
  if (request.headers["if-none-match"] === tag) {
    response.writeHead(304).end();
    return;
  }
  response.writeHead(200, { "Content-Type": type, "Content-Length": bytes.length });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

function notFound(path) {
  return new Problem(404, "not_found", `There is no ${path.slice(0, 200)} here.`);
}
