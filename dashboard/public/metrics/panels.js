// The panels, in their order on the page. A further one is a file beside the others, a line here, and
// its words.
//
//   id      of its element, and of its words
//   draw    draw({ samples, seen, bounds, binS }) gives what is drawn:
//             x        seconds; or `labels`, the upper bounds of buckets in seconds
//             series   [{ name, values, colour, area?, dash?, solo? }]
//             stacked  each series stands on those before it, but those that are `solo`
//             spanS    of bars over time; `whole` where numbers have no fractions
//   say     say({ samples, bounds }, words, text) gives the sentence
//
// `samples` of draw are thinned, and reach back a little further than what is shown; `seen` are all
// that are shown, which are the `samples` of say.

import { cells } from "./panels/cells.js";
import { firstToken } from "./panels/first-token.js";
import { generated } from "./panels/generated.js";
import { outcomes } from "./panels/outcomes.js";
import { prompt } from "./panels/prompt.js";
import { requests } from "./panels/requests.js";

export const PANELS = [generated, prompt, firstToken, cells, requests, outcomes];
