// Merges the options of the plugin with those of a route, which take precedence.

import { EXCLUSIONS } from '../http/options.js';

type Options = Readonly<Record<string, unknown>>;

const has = (options: Options, name: string) => options[name] !== undefined;

/** Drops each option of the plugin that excludes an option of the route, or is excluded by one. */
export function inherit(plugin: Options, own: Options): Options {
  const merged: Record<string, unknown> = { ...own, ...plugin };
  for (const name of Object.keys(own)) if (has(own, name)) merged[name] = own[name];
  for (const [name, excluded] of Object.entries(EXCLUSIONS)) {
    const isExcluded = excluded.some((other) => has(own, other));
    const dropped = has(own, name) ? excluded : isExcluded ? [name] : [];
    for (const other of dropped) if (!has(own, other)) delete merged[other];
  }
  // The plugin's policy name describes the plugin's limit only.
  if (hasOwnLimit(own) && !has(own, 'name')) delete merged['name'];
  return merged;
}

/** Whether a route has buckets of its own. */
export function hasOwnLimit(own: Options): boolean {
  return ['limiter', ...EXCLUSIONS.limiter].some((name) => has(own, name));
}
