// What a browser may do with the page: the security headers, and the hash of its import map.

import { createHash } from "node:crypto";

const IMPORT_MAP = /<script type="importmap">([^]*?)<\/script>/g;

/** The headers of every answer. */
export const SECURITY_HEADERS = {
  "Content-Security-Policy": policy([]),
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

/** The Content-Security-Policy of an HTML file: its import maps are the only scripts inside it. */
export function policyOf(html) {
  const maps = html.toString("utf8").matchAll(IMPORT_MAP);
  return policy([...maps].map(([, text]) => createHash("sha256").update(text).digest("base64")));
}

function policy(hashes) {
  const scripts = ["'self'", ...hashes.map((hash) => `'sha256-${hash}'`)].join(" ");
  return [
    "default-src 'none'",
    `script-src ${scripts}`,
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "worker-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types dompurify pdf-worker",
  ].join("; ");
}
