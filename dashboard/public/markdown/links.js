// Where a link leads and whether its text says so. Pure.

const PROTOCOLS = new Set(["http:", "https:", "mailto:"]);

/** Where an address leads, as `{ href, place }`: the host or the mailbox, in ASCII. Null for what may
 * be no link. */
export function destinationOf(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  const place = url.protocol === "mailto:" ? url.pathname : url.host;
  return PROTOCOLS.has(url.protocol) && place !== "" ? { href: url.href, place } : null;
}

/** Whether a text names that place first and with nothing that could deceive the eye. */
export function names(text, place) {
  const said = text.trim();
  if (!/^[\x21-\x7e]+$/.test(said)) return false; // other letters may look like these
  const mailbox = place.includes("@");
  const named = mailbox ? said : /^(?:https?:\/\/)?([^/?#]*)/i.exec(said)[1];
  return named.toLowerCase() === place.toLowerCase();
}
