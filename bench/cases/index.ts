// All cases, in the order in which they run.

import { bound } from './bound.js';
import type { Case } from './case.js';
import { allowed, groups, opened, refused, refusedGroups, refusedOpened } from './check.js';
import { churn } from './churn.js';
import { client } from './client.js';
import { delivery } from './delivery.js';
import { fetchOverhead } from './fetch.js';
import { fleetCost } from './fleet-cost.js';
import { growth } from './growth.js';
import { headers } from './headers.js';
import { http } from './http.js';
import { httpFastify } from './http-fastify.js';
import { httpServer } from './http-server.js';
import { machine } from './machine.js';
import { memory } from './memory.js';
import { rules } from './rules.js';
import { shared } from './shared.js';
import { flood, upkeep } from './upkeep.js';
import { bans, watched } from './watched.js';
import { ws } from './ws.js';

export const CASES: readonly Case[] = [
  allowed,
  refused,
  opened,
  refusedOpened,
  ...groups,
  ...refusedGroups,
  growth,
  ...memory,
  upkeep,
  flood,
  churn,
  bound,
  ...rules,
  headers,
  client,
  fetchOverhead,
  ws,
  delivery,
  http,
  httpFastify,
  httpServer,
  watched,
  bans,
  ...machine,
  ...shared,
  ...fleetCost,
];

/** @throws if no case has this name. */
export function caseNamed(name: string): Case {
  const found = CASES.find((candidate) => candidate.name === name);
  if (found !== undefined) return found;
  const names = CASES.map((candidate) => candidate.name).join(', ');
  throw new Error(`no case is called ${name}; there are ${names}`);
}

/** The case with this name, or all cases of a group, such as `rules`. @throws if there is none. */
export function casesNamed(name: string): readonly Case[] {
  const group = CASES.filter((candidate) => candidate.name.startsWith(`${name}-`));
  const isGroup = group.length > 0 && CASES.every((candidate) => candidate.name !== name);
  return isGroup ? group : [caseNamed(name)];
}
