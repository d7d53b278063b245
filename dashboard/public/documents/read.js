export class DocumentError extends Error {}
export async function readDocument(){ throw new DocumentError(); }
