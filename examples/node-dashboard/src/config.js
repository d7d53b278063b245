// The settings: read from the environment once; knows nothing of what they are used for.

export class ConfigError extends Error {}

/** `port` (0 takes a free one) and `llmUrl`, which ends in a slash. Throws ConfigError. */
export function readConfig(environment) {
  return {
    port: readPort(environment.PORT || "3000"),
    llmUrl: readUrl(environment.LLM_URL || "http://127.0.0.1:8005"),
  };
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
    throw wrong("that is no URL, such as http://127.0.0.1:8005");
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
