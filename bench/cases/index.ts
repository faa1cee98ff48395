// All cases, in the order in which they run.

import { bound } from './bound.js';
import type { Case } from './case.js';
import { allowed, groups, opened, refused } from './check.js';
import { churn } from './churn.js';
import { client } from './client.js';
import { growth } from './growth.js';
import { headers } from './headers.js';
import { http } from './http.js';
import { httpFastify } from './http-fastify.js';
import { httpServer } from './http-server.js';
import { memory } from './memory.js';
import { shared } from './shared.js';
import { flood, upkeep } from './upkeep.js';
import { bans, watched } from './watched.js';
import { ws } from './ws.js';

export const CASES: readonly Case[] = [
  allowed,
  refused,
  opened,
  ...groups,
  growth,
  ...memory,
  upkeep,
  flood,
  churn,
  bound,
  headers,
  client,
  ws,
  http,
  httpFastify,
  httpServer,
  watched,
  bans,
  ...shared,
];

/** @throws if no case has this name. */
export function caseNamed(name: string): Case {
  const found = CASES.find((candidate) => candidate.name === name);
  if (found !== undefined) return found;
  const names = CASES.map(({ name }) => name).join(', ');
  throw new Error(`no case is called ${name}; there are ${names}`);
}
