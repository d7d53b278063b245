// Which requests may come in: the names in Host, and the sites that ask. Knows no route.

import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";

import { Problem } from "./problem.js";

const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];

/** Whether what listens at a host can be reached from this machine alone. */
export function isLoopback(host) {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Whether what listens at a host can be reached at every address of this machine. */
export function isEverywhere(host) {
  return host === "0.0.0.0" || host === "::";
}

/** A host as a URL writes it. */
export function inUrl(host) {
  return isIP(host) === 6 ? `[${host}]` : host;
}

/** The addresses that other machines' browsers can have for what listens here at `host`. */
export function ownAddresses(host = "::") {
  const found = Object.values(networkInterfaces()).flat();
  return found
    .filter(({ internal }) => !internal)
    .map(({ address }) => address)
    .filter((address) => isIP(address) === 4 || (host === "::" && !/^fe80:/i.test(address)))
    .map(inUrl);
}

/**
 * A foreign page whose name was made to point at this machine must not get through: Host has to be
 * a name of this machine, or one of `allowed`. Addresses cannot be made to point elsewhere.
 */
export class Guard {
  constructor(host, allowed = []) {
    this.names = new Set([...LOOPBACK, normal(inUrl(host))]);
    this.allowed = new Set(allowed.map(normal));
    this.open = !isLoopback(host);
    if (this.open) for (const name of ownNames()) this.names.add(name);
  }

  check(request) {
    const host = parsed(`http://${request.headers.host}`);
    if (!host || !this.answersTo(host)) {
      throw new Problem(
        403,
        "forbidden_host",
        "The dashboard does not know this name as its own. DASHBOARD_ALLOWED_HOSTS adds one.",
      );
    }
    checkSite(request, host);
  }

  answersTo({ host, hostname }) {
    const known = this.names.has(hostname) || this.allowed.has(hostname) || this.allowed.has(host);
    return known || (this.open && ownAddresses().includes(hostname));
  }
}

/** Other sites may link to the page, and neither read nor change anything. */
function checkSite({ method, url, headers }, { host }) {
  const reads = method === "GET" || method === "HEAD";
  const site = headers["sec-fetch-site"] ?? "none";
  const foreignSite = site !== "none" && site !== "same-origin";
  if (foreignSite && (!reads || url.startsWith("/api/"))) throw forbiddenOrigin();
  const { origin } = headers;
  if (!reads && origin !== undefined && parsed(origin)?.host !== host) throw forbiddenOrigin();
}

function forbiddenOrigin() {
  return new Problem(403, "forbidden_origin", "Another site cannot use this dashboard.");
}

function parsed(text) {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

function ownNames() {
  const name = normal(hostname());
  const first = name.split(".", 1)[0];
  return first === "" ? [] : [name, first, `${first}.local`];
}

function normal(name) {
  return name.toLowerCase().replace(/\.$/, "");
}
