// Reads the file that lists upstream nodes, their policies and how requests are sent to them. All error messages name
// the host, or the line of a text that is no JSON. They never contain a key or a header.

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
  /** What the policy counts; see `Policy.unit`. Default: `requests`. */
  unit?: string | undefined;
}

/** A node of a pool. Other fields are ignored. */
export interface NodeEntry {
  readonly policies: readonly NodePolicy[];
  /** `limitFetch` puts this path before that of each request, such as `/v3/rpc`. Default: none. */
  readonly path?: string | undefined;
  /** `limitFetch` sets these headers in each request to the node. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** `limitFetch` sends this key as `Authorization: Bearer`. Default: none. */
  readonly key?: string | undefined;
  /**
   * Seconds in which the node must begin to answer an attempt of `limitFetch`, greater than 0. Default: the option
   * `attemptSeconds`.
   */
  readonly timeoutSeconds?: number | undefined;
}

/** Nodes by host. */
export type NodeFile = Readonly<Record<string, NodeEntry>>;

/** A node as it was read. */
export interface NodeSettings {
  readonly policies: readonly Policy[];
  /** Empty, or it begins with a slash and does not end with one. */
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly timeoutSeconds: number | undefined;
}

const ACCEPTED = 'an object such as { "host": { "policies": [{ "w": 60, "v": 240 }] } }';
// A name is a token (RFC 9110, 5.6.2); a value has visible characters, spaces and tabs.
const HEADER_NAME = /^[\w!#$%&'*+.^`|~-]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * Returns the nodes by host, in the order of the file, which is JSON text (with or without a byte order mark) or the
 * parsed object.
 * @throws ERR_LIMITER_OPTION if the text is not JSON, naming the line; if there is no node; or if a field of a node is
 * missing or invalid, naming the host
 */
export function parseNodeFile(file: unknown): Map<string, NodeSettings> {
  const nodes = typeof file === 'string' ? parseJson(file) : file;
  if (!isRecord(nodes)) throw invalidValue('ERR_LIMITER_OPTION', 'the node file', nodes, ACCEPTED);
  const entries = Object.entries(nodes);
  if (entries.length === 0) throw optionError(`the node file must name a node: ${ACCEPTED}`);
  return new Map(entries.map(([host, node]) => [host, readNode(host, node)]));
}

function parseJson(text: string): unknown {
  const json = text.replace(/^\ufeff/, '');
  try {
    return JSON.parse(json);
  } catch (error) {
    const comment = commentAt(json);
    if (comment !== undefined) {
      throw optionError(
        `the node file must be JSON without comments: line ${lineOf(json, comment)} has one`,
      );
    }
    // Only some engines say where.
    const [, position] = /position (\d+)/.exec((error as Error).message) ?? [];
    const line = position === undefined ? '' : ` (line ${lineOf(json, Number(position))})`;
    throw optionError(`the node file must be JSON: ${(error as Error).message}${line}`, error);
  }
}

/** Returns the index of the first comment outside of a string; undefined without one. */
function commentAt(json: string): number | undefined {
  for (const match of json.matchAll(/"(?:[^"\\]|\\.)*"?|\/[/*]|#/g)) {
    if (!match[0].startsWith('"')) return match.index;
  }
  return undefined;
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split(/\r\n|[\r\n]/).length;
}

function readNode(host: string, node: unknown): NodeSettings {
  const path = `node ${show(host)}`;
  const { policies, timeoutSeconds, ...rest }: Fields = isRecord(node) ? node : {};
  if (!isArray(policies) || policies.length === 0) {
    throw optionError(`${path} must have policies: an array of at least one { "w": 60, "v": 240 }`);
  }
  const read = policies.map((policy, index) => readPolicy(`${path}, policies[${index}]`, policy));
  const timeout = `${path}: timeoutSeconds`;
  try {
    return {
      policies: readPolicies(read),
      path: readPath(path, rest['path']),
      headers: readHeaders(path, rest['headers'], rest['key']),
      timeoutSeconds:
        timeoutSeconds === undefined ? undefined : positive({ [timeout]: timeoutSeconds }, timeout),
    };
  } catch (error) {
    const { message } = error as Error;
    if (message.startsWith(path)) throw error;
    throw optionError(`${path}: ${message}`, error);
  }
}

type Fields = Readonly<Record<string, unknown>>;

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
    unit: policy['unit'] as string | undefined,
  };
}

function readPath(node: string, path: unknown): string {
  if (path === undefined) return '';
  if (typeof path === 'string' && /^\/[^?#\s]*$/.test(path)) return path.replace(/\/+$/, '');
  const accepted = 'a path that begins with a slash, without query and fragment';
  throw invalidValue('ERR_LIMITER_OPTION', `${node}: path`, path, accepted);
}

function readHeaders(node: string, headers: unknown, key: unknown): [string, string][] {
  if (headers !== undefined && !isRecord(headers)) {
    throw invalidValue('ERR_LIMITER_OPTION', `${node}: headers`, headers, 'an object of strings');
  }
  const read = Object.entries(headers ?? {});
  if (key !== undefined) {
    if (typeof key !== 'string' || key === '' || !HEADER_VALUE.test(key)) {
      throw optionError(`${node}: key must be a string that a header can contain`);
    }
    read.push(['authorization', `Bearer ${key}`]);
  }
  for (const [name, value] of read) {
    if (!HEADER_NAME.test(name)) throw optionError(`${node}: ${show(name)} is no name of a header`);
    if (typeof value !== 'string' || !HEADER_VALUE.test(value)) {
      throw optionError(
        `${node}: the header ${show(name)} must be a string of printable characters`,
      );
    }
  }
  return read as [string, string][];
}

function optionError(message: string, cause?: unknown): Error {
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message, cause);
}
