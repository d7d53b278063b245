// The settings: read from the environment once; knows nothing of what they are used for.

export class ConfigError extends Error {}

/** `port` (0 takes a free one), `llmUrl`, which ends in a slash, and `apiKey`. Throws ConfigError. */
export function readConfig(environment) {
  return {
    port: readPort(environment.PORT || "3000"),
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
