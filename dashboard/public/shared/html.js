// Templates for Preact, without a build: `html` makes virtual nodes of a tagged text.

import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);
