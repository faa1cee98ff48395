// The options of a route: the plugin's, and its own before them.

import { ALONE } from '../http/options.js';

type Options = Readonly<Record<string, unknown>>;

const has = (options: Options, name: string) => options[name] !== undefined;

/** An option of the plugin's that would have no effect beside one of the route's, or forbid it, gives way. */
export function inherit(plugin: Options, own: Options): Options {
  const merged: Record<string, unknown> = { ...own, ...plugin };
  for (const name of Object.keys(own)) if (has(own, name)) merged[name] = own[name];
  for (const [alone, others] of Object.entries(ALONE)) {
    const giveWay = has(own, alone) ? others : others.some((name) => has(own, name)) ? [alone] : [];
    for (const name of giveWay) if (!has(own, name)) delete merged[name];
  }
  // A name is that of one limit.
  if (hasOwnLimit(own) && !has(own, 'name')) delete merged['name'];
  return merged;
}

/** Whether the buckets are the route's own. */
export function hasOwnLimit(own: Options): boolean {
  return ['limiter', ...ALONE.limiter].some((name) => has(own, name));
}
