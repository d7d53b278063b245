// The settings: read from the environment once; knows nothing of what they are used for.

import { readFileSync } from "node:fs";

import { isLoopback } from "./guard.js";

const LEAST_PASSWORD = 8;

export class ConfigError extends Error {}

/**
 * `host`, `port` (0 takes a free one), `allowedHosts`, `password` (empty for none), `llmUrl`, which
 * ends in a slash, and `apiKey`. Throws ConfigError.
 */
export function readConfig(environment) {
  const host = readHost(environment.HOST || "127.0.0.1");
  const password = readPassword(environment);
  if (!isLoopback(host) && password === "") {
    throw new ConfigError(
      `HOST is ${JSON.stringify(host)}, which other machines reach: set DASHBOARD_PASSWORD or ` +
        `DASHBOARD_PASSWORD_FILE to a password of at least ${LEAST_PASSWORD} characters.`,
    );
  }
  return {
    host,
    port: readPort(environment.PORT || "3000"),
    allowedHosts: readHosts(environment.DASHBOARD_ALLOWED_HOSTS || ""),
    password,
    llmUrl: readUrl(environment.LLM_URL || "http://127.0.0.1:8005"),
    apiKey: readKey(environment.LLM_API_KEY || ""),
  };
}

/** The first of the keys that the LLM server's own LLM_API_KEY may list; empty for none. */
function readKey(text) {
  const key = text.split(",", 1)[0].trim();
  if (!/^[\x21-\x7e]*$/.test(key)) {
    throw new ConfigError("LLM_API_KEY has a character that a key cannot have.");
  }
  return key;
}

function readHost(text) {
  const host = text.trim().replace(/^\[(.*)\]$/, "$1");
  if (!/^[A-Za-z0-9.:_-]+$/.test(host)) {
    throw new ConfigError(`HOST is ${JSON.stringify(text)}, not an address or a name.`);
  }
  return host;
}

/** Names or addresses, each with or without a port. */
function readHosts(text) {
  const hosts = text.split(",").map((each) => each.trim());
  return hosts.filter(Boolean).map((each) => {
    let url;
    try {
      url = new URL(`http://${each}`);
    } catch {
      // undefined is refused below
    }
    if (!/^[\w.:[\]-]+$/.test(each) || url === undefined) {
      throw new ConfigError(
        `DASHBOARD_ALLOWED_HOSTS has ${JSON.stringify(each)}, not a name such as box.lan:3000.`,
      );
    }
    return url.host;
  });
}

function readPassword(environment) {
  const { DASHBOARD_PASSWORD: text = "", DASHBOARD_PASSWORD_FILE: file = "" } = environment;
  if (text !== "" && file !== "") {
    throw new ConfigError("Set DASHBOARD_PASSWORD or DASHBOARD_PASSWORD_FILE, not both.");
  }
  const password = file === "" ? text : readPasswordFile(file);
  if ((text !== "" || file !== "") && [...password].length < LEAST_PASSWORD) {
    throw new ConfigError(`The password has fewer than ${LEAST_PASSWORD} characters.`);
  }
  return password;
}

function readPasswordFile(file) {
  try {
    return readFileSync(file, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    throw new ConfigError(`DASHBOARD_PASSWORD_FILE ${file} cannot be read (${error.code}).`);
  }
}

function readPort(text) {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65535) {
    throw new ConfigError(`PORT is ${JSON.stringify(text)}, not a number from 0 to 65535.`);
  }
  return port;
}

function readUrl(text) {
  const wrong = (what) => new ConfigError(`LLM_URL is ${JSON.stringify(text)}: ${what}.`);
  let url;
  try {
    url = new URL(text);
  } catch {
    throw wrong("that is not a URL, such as http://127.0.0.1:8005");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw wrong("it must begin with http:// or https://");
  }
  if (url.username || url.password || url.search || url.hash) {
    throw wrong("a user, a password, ? and # have no place in it");
  }
  // The base that OpenAI's clients are given ends in /v1; it is as good here.
  url.pathname = url.pathname.replace(/\/*(\/v1)?\/*$/, "/");
  return url;
}
