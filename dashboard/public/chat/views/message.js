// One message: which of a question and an answer it is.

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Answer } from "./answer.js";
import { Question } from "./question.js";

/** `last` is true for the newest message of what is shown. */
export function Message({ id, last }) {
  const { chat } = usePage();
  const message = chat.message(id)?.value;
  if (!message) return null; // another conversation is being opened
  return message.role === "user"
    ? html`<${Question} message=${message} />`
    : html`<${Answer} message=${message} last=${last} />`;
}
