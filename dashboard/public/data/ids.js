// Ids that nobody can guess, also where a page has no secure context, and so no randomUUID.

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
