export class ImportError extends Error {}
export function exportJson(){} export function exportMarkdown(){} export function importConversations(){}
