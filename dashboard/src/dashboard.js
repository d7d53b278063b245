// The HTTP server for the page: routes, request bodies, errors as JSON. It holds no conversation.

import { createServer } from "node:http";

import { fileOf } from "./files.js";
import { Problem } from "./problem.js";
import { fetchHealth, LIMITS, relayChat } from "./upstream.js";

const MAX_BODY_BYTES = 4 * 1024 * 1024; // what the LLM server takes
const LOOPBACK = new Set(["127.0.0.1", "localhost", "[::1]"]);
const SECURITY_HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

/** A server that does not listen yet, for the LLM server `llm`, as upstream.js describes it. */
export function createDashboard(llm, limits = LIMITS) {
  const context = { llm, limits: { ...LIMITS, ...limits } };
  return createServer((request, response) => {
    response.on("error", () => {}); // the browser went away; "close" follows
    respond(context, request, response).catch((error) => sendProblem(request, response, error));
  });
}

async function respond(context, request, response) {
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
  checkHost(request.headers.host);
  const path = request.url.split("?", 1)[0];
  if (path === "/api/health") {
    allow(request, "GET");
    const { status, body } = await fetchHealth(context.llm, context.limits);
    sendJson(response, status, body);
  } else if (path === "/api/chat") {
    allow(request, "POST");
    const body = await readJson(request);
    await relayChat(context.llm, context.limits, body, response);
  } else {
    await sendFile(path, request, response);
  }
}

/** A foreign page whose name was made to point at this machine must not get through. */
function checkHost(host) {
  let name;
  try {
    name = new URL(`http://${host}`).hostname;
  } catch {
    // undefined is refused below
  }
  if (!LOOPBACK.has(name)) {
    throw new Problem(403, "forbidden_host", "This dashboard answers on this machine alone.");
  }
}

function allow(request, ...methods) {
  if (methods.includes(request.method)) return;
  const problem = new Problem(
    405,
    "method_not_allowed",
    `This takes ${methods.join(" and ")}, not ${request.method}.`,
  );
  problem.allow = methods.join(", ");
  throw problem;
}

/** The object in a request's body. Asking for JSON's type keeps other sites' forms out. */
async function readJson(request) {
  const type = (request.headers["content-type"] ?? "").split(";", 1)[0].trim().toLowerCase();
  if (type !== "application/json") {
    throw new Problem(415, "unsupported_media_type", "The body must be application/json.");
  }
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk); // the rest is read, as an answer needs that
  }
  if (size > MAX_BODY_BYTES) {
    throw new Problem(
      413,
      "request_too_large",
      `The conversation is larger than ${MAX_BODY_BYTES} bytes. Start a new one.`,
    );
  }
  let body;
  try {
    body = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    // undefined is refused below
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new Problem(400, "invalid_json", "The body must be a JSON object.");
  }
  return body;
}

async function sendFile(path, request, response) {
  const file = await fileOf(path);
  if (!file) throw new Problem(404, "not_found", `There is no ${path} here.`);
  allow(request, "GET", "HEAD");
  response.writeHead(200, {
    "Content-Type": file.type,
    "Content-Length": file.bytes.length,
    "Cache-Control": "no-cache",
  });
  response.end(request.method === "HEAD" ? undefined : file.bytes);
}

function sendJson(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}

function sendProblem(request, response, error) {
  if (response.destroyed || response.headersSent) {
    response.destroy();
    return;
  }
  let problem = error;
  if (!(error instanceof Problem)) {
    console.error(`dashboard: ${request.method} ${request.url} failed:`, error);
    problem = new Problem(500, "internal_error", "The dashboard made an error; its log has it.");
  }
  if (problem.allow) response.setHeader("Allow", problem.allow);
  // A body that was not read to its end would be taken for the next request.
  if (!request.complete) response.setHeader("Connection", "close");
  sendJson(response, problem.status, problem.body());
}
