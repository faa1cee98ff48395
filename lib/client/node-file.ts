// The file that names upstream nodes and their policies. All complaints name the host.

import { limiterError, refused, show } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import { positive } from '../common/options.js';
import { type Policy, readPolicies } from './policies.js';

/** A policy of a node: at most `v` requests in `w` seconds. */
export interface NodePolicy {
  /** Window in seconds: finite, greater than 0. */
  w: number;
  /** Units a window: finite, greater than 0. */
  v: number;
  /** The name that the node may call it by. */
  name?: string | undefined;
}

/** Nodes by host. What else a node or a policy says is left alone. */
export type NodeFile = Readonly<Record<string, { readonly policies: readonly NodePolicy[] }>>;

const ACCEPTED = 'an object such as { "host": { "policies": [{ "w": 60, "v": 240 }] } }';

/**
 * The policies of each host, in the order of the file: JSON text, or what it says.
 * @throws `ERR_LIMITER_OPTION` for what is no JSON, names no node, or has a node whose policies are
 * none or wrong; the host is named
 */
export function parseNodeFile(file: unknown): Map<string, readonly Policy[]> {
  const nodes = typeof file === 'string' ? parseJson(file) : file;
  if (!isRecord(nodes)) throw refused('ERR_LIMITER_OPTION', 'the node file', nodes, ACCEPTED);
  const hosts = Object.entries(nodes);
  if (hosts.length === 0) throw wrong(`the node file must name a node: ${ACCEPTED}`);
  return new Map(hosts.map(([host, node]) => [host, policiesOf(host, node)]));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw wrong(`the node file must be JSON: ${(error as Error).message}`, error);
  }
}

function policiesOf(host: string, node: unknown): readonly Policy[] {
  const where = `node ${show(host)}`;
  const { policies } = isRecord(node) ? node : {};
  if (!isArray(policies) || policies.length === 0) {
    throw wrong(`${where} must have policies: an array of at least one { "w": 60, "v": 240 }`);
  }
  const read = policies.map((policy, at) => policyOf(`${where}, policies[${at}]`, policy));
  try {
    return readPolicies(read);
  } catch (error) {
    throw wrong(`${where}: ${(error as Error).message}`, error);
  }
}

function policyOf(where: string, policy: unknown): Policy {
  if (!isRecord(policy)) {
    throw refused('ERR_LIMITER_OPTION', where, policy, 'an object { "w": seconds, "v": units }');
  }
  const field = (key: string) => positive({ [`${where}.${key}`]: policy[key] }, `${where}.${key}`);
  return {
    quota: field('v'),
    windowSeconds: field('w'),
    name: policy['name'] as string | undefined,
  };
}

function wrong(message: string, cause?: unknown): Error {
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message, cause);
}
