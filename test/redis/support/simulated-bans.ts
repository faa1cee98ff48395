// SimulatedBans: does in TypeScript what the scripts of bans do, for simulations. scripts.real.test.ts shows on a real
// server that both reply and publish the same.

import { CHANGE, LEVEL_SECONDS, PAGE, VERSION } from '../../../lib/redis/bans/ban-scripts.js';
import { MAX_TERMS } from '../../../lib/redis/bans/ban-state.js';

interface Peer {
  lifted: number;
  violations: number;
  terms: [made: number, ends: number][];
  /** The score of the index. */
  expires: number;
}

interface Data {
  epoch: string | undefined;
  version: number;
  shift: number;
  teller: { node: string; until: number } | undefined;
  /** By the id as JSON. */
  peers: Map<string, Peer>;
}

type Four = [string, string, string, string];

const EMPTY: Data = {
  epoch: undefined,
  version: 0,
  shift: 0,
  teller: undefined,
  peers: new Map(),
};

export class SimulatedBans {
  #data: Data = structuredClone(EMPTY);
  /** The server's own clock; a test may set it. */
  readonly #clock: () => number;
  readonly #publish: (message: string) => void;

  constructor(clock: () => number, publish: (message: string) => void) {
    this.#clock = clock;
    this.#publish = publish;
  }

  /** Loses all data, as after a restart without a snapshot. */
  flush(): void {
    this.#data = structuredClone(EMPTY);
  }

  /** Returns a function that brings back the data of now. */
  snapshot(): () => void {
    const data = structuredClone(this.#data);
    return () => {
      this.#data = structuredClone(data);
    };
  }

  /** The time by the fleet's clock. */
  get now(): number {
    return this.#clock() + this.#data.shift;
  }

  /** Seconds that a peer's bans have left in the store. */
  secondsLeft(key: string): number {
    const { lifted = 0, terms = [] } = this.#data.peers.get(JSON.stringify(key)) ?? {};
    const ends = terms.filter(([made]) => made > lifted).map(([, end]) => end);
    return Math.max(0, ...ends.map((end) => end - this.now));
  }

  get size(): number {
    return this.#data.peers.size;
  }

  eval(script: string, args: readonly string[]): unknown {
    if (script === PAGE) return this.#page(args as [string, string]);
    if (script !== VERSION && script !== CHANGE) throw new Error('ERR unknown script');
    const data = this.#data;
    const [least, newEpoch, knownEpoch, version, shift] = args as [string, ...Four];
    const wentBack = data.epoch === knownEpoch && data.version < Number(version);
    const isOther = knownEpoch !== '' && knownEpoch !== data.epoch;
    const isLost = data.epoch === undefined || isOther || wentBack;
    if (wentBack) data.epoch = newEpoch;
    const behind = Number(least) - this.now;
    if (behind > 0.05 && (isLost || data.shift === Number(shift))) {
      data.shift += behind;
      data.version += 1;
      data.epoch ??= newEpoch;
    }
    return script === VERSION ? this.#version(args) : this.#change(args);
  }

  #version(args: readonly string[]): unknown {
    const data = this.#data;
    const [shift, telling, node, ahead] = args.slice(4) as Four;
    if (Number(ahead) > 0 && data.shift === Number(shift)) {
      data.shift -= Number(ahead);
      data.version += 1;
      data.epoch ??= args[1];
    }
    let isTeller = 0;
    if (telling === 'take') {
      const other = data.teller?.node === node ? undefined : data.teller;
      if ((other?.until ?? 0) <= this.now) {
        isTeller = 1;
        data.epoch ??= args[1];
        data.teller = { node, until: this.now + 10 };
      }
    } else if (telling === 'free' && data.teller?.node === node) {
      data.teller = undefined;
    }
    const { epoch = '', version } = data;
    return [epoch, String(version), String(this.now), String(data.shift), isTeller];
  }

  #change(args: readonly string[]): unknown {
    const data = this.#data;
    const now = this.now;
    const node = args[5] as string;
    const changed: string[] = [];
    for (let at = 7; at < args.length; at += 3) {
      const [id, more, value] = args.slice(at, at + 3) as [string, string, string];
      const known = data.peers.get(id) ?? { lifted: 0, violations: 0, terms: [], expires: 0 };
      const merged = merge(known, parse(value), Number(more), now);
      if (format(merged) === format(known) || merged.expires <= now) continue;
      data.epoch ??= args[1];
      data.peers.set(id, merged);
      changed.push(`[${id},"${format(merged)}"]`);
    }
    if (changed.length === 0) return 0;
    for (const [id, { expires }] of data.peers) if (expires <= now) data.peers.delete(id);
    if (data.teller?.node === node) data.teller.until = now + 10;
    data.version += 1;
    const { epoch, version } = data;
    const head = `"epoch":"${epoch}","version":${version},"time":${now},"from":"${node}"`;
    this.#publish(`{${head},"peers":[${changed.join(',')}]}`);
    return changed.length;
  }

  #page([from, size]: readonly [string, string]): unknown {
    const isAfter = from.startsWith('(');
    const least = Number(isAfter ? from.slice(1) : from);
    return [...this.#data.peers]
      .filter(([, { expires }]) => (isAfter ? expires > least : expires >= least))
      .sort(([a, one], [b, other]) => one.expires - other.expires || (a < b ? -1 : 1))
      .slice(0, Number(size))
      .flatMap(([id, peer]) => [id, String(peer.expires), format(peer)]);
  }
}

function parse(value: string): Peer {
  const [lifted = '', violations = '', ...terms] = value.split(' ');
  return {
    lifted: Number(lifted),
    violations: Number(violations),
    terms: terms.map((term) => term.split(':').map(Number) as [number, number]),
    expires: 0,
  };
}

function format({ lifted, violations, terms }: Peer): string {
  return [lifted, violations, ...terms.map((term) => term.join(':'))].join(' ');
}

function merge(known: Peer, told: Peer, more: number, now: number): Peer {
  const early = Math.max(0, Math.max(told.lifted, ...told.terms.map(([made]) => made)) - now);
  const toldLift = Math.max(0, told.lifted - early);
  const lifted = Math.max(known.lifted, toldLift);
  const all: Peer['terms'] = [];
  let expires = 0;
  const keep = (terms: Peer['terms'], isKnown: boolean, by: number) => {
    const inForce = terms
      .map(([made, ends]) => [made - by, ends - by] as [number, number])
      .filter(([, ends]) => ends > now);
    const kept = inForce.filter(([made]) => made > lifted);
    for (const [made, ends] of inForce) if (made <= lifted) expires = Math.max(expires, ends);
    all.push(...kept);
    return (isKnown || kept.length > 0) && (terms.length === 0 || inForce.length > 0);
  };
  let violations = 0;
  if (keep(known.terms, known.lifted === lifted, 0)) violations = known.violations;
  if (keep(told.terms, toldLift === lifted, early)) {
    violations = Math.max(violations, told.violations) + more;
  }
  const terms: Peer['terms'] = [];
  let longest = 0;
  for (const term of all.sort((a, b) => b[0] - a[0] || b[1] - a[1])) {
    if (term[1] <= longest) continue;
    longest = term[1];
    if (terms.length < MAX_TERMS) terms.push(term);
    else (terms.at(-1) as [number, number])[1] = longest;
  }
  if (lifted > 0) {
    expires = Math.min(Math.max(expires, known.expires, lifted + 3600), now + 30 * 86_400);
  }
  expires = Math.max(expires, longest, violations > 0 ? now + LEVEL_SECONDS : 0);
  return { lifted, violations, terms, expires };
}
