// The recipe for Deno. Prints its port.

import { denoHandler } from './deno-recipe.mjs';

const onListen = ({ port }) => console.log(port);
globalThis.Deno.serve({ port: 0, hostname: '127.0.0.1', onListen }, denoHandler());
