// Reads the file that lists upstream nodes and their policies. All error messages name the host.

import { invalidValue, limiterError, show } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import { positive } from '../common/options.js';
import { type Policy, readPolicies } from './policies.js';

/** A policy of a node: at most `v` units in any interval of `w` seconds. */
export interface NodePolicy {
  /** The window's length in seconds: finite, greater than 0. */
  w: number;
  /** Units per window: finite, greater than 0. */
  v: number;
  /** The name that the node uses for this policy. It must be unique within the node. */
  name?: string | undefined;
}

/** Nodes by host, each with its policies. Other keys of a node or a policy are ignored. */
export type NodeFile = Readonly<Record<string, { readonly policies: readonly NodePolicy[] }>>;

const ACCEPTED = 'an object such as { "host": { "policies": [{ "w": 60, "v": 240 }] } }';

/**
 * Returns the policies of each host, in the order of the file, which is JSON text or the parsed object.
 * @throws ERR_LIMITER_OPTION if the text is not JSON, if there is no node, or if the policies of a node are
 * missing or invalid; the message names the host
 */
export function parseNodeFile(file: unknown): Map<string, readonly Policy[]> {
  const nodes = typeof file === 'string' ? parseJson(file) : file;
  if (!isRecord(nodes)) throw invalidValue('ERR_LIMITER_OPTION', 'the node file', nodes, ACCEPTED);
  const entries = Object.entries(nodes);
  if (entries.length === 0) throw optionError(`the node file must name a node: ${ACCEPTED}`);
  return new Map(entries.map(([host, node]) => [host, readNode(host, node)]));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw optionError(`the node file must be JSON: ${(error as Error).message}`, error);
  }
}

function readNode(host: string, node: unknown): readonly Policy[] {
  const path = `node ${show(host)}`;
  const { policies } = isRecord(node) ? node : {};
  if (!isArray(policies) || policies.length === 0) {
    throw optionError(`${path} must have policies: an array of at least one { "w": 60, "v": 240 }`);
  }
  const read = policies.map((policy, index) => readPolicy(`${path}, policies[${index}]`, policy));
  try {
    return readPolicies(read);
  } catch (error) {
    throw optionError(`${path}: ${(error as Error).message}`, error);
  }
}

function readPolicy(path: string, policy: unknown): Policy {
  if (!isRecord(policy)) {
    throw invalidValue(
      'ERR_LIMITER_OPTION',
      path,
      policy,
      'an object { "w": seconds, "v": units }',
    );
  }
  const field = (key: string) => positive({ [`${path}.${key}`]: policy[key] }, `${path}.${key}`);
  return {
    quota: field('v'),
    windowSeconds: field('w'),
    name: policy['name'] as string | undefined,
  };
}

function optionError(message: string, cause?: unknown): Error {
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message, cause);
}
