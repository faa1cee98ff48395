// How long checks take, by sampling: the check methods of one limiter, and of the peers that it opens
// meanwhile, are shadowed on the instance, so that a limiter that nobody measures runs exactly what it
// always ran. Whoever shadows a method as well may come and go in any order.

// Of all that are timed: an argument that is left out is undefined, which is the same.
type Method = (first?: unknown, second?: unknown) => unknown;
type Target = Record<string, unknown>;

/** Told of a sampled check: its method, and how long it took in seconds. */
export type OnSample = (method: string, seconds: number) => void;

const METHODS = ['check', 'checkMessage', 'checkOrderbook'];

/** What stands in for a method. */
interface Shadow {
  /** What it stands in for: the method, or what stands in for that. */
  original: Method;
  /** Whether the object had that as a property of its own. */
  wasOwn: boolean;
}

const shadows = new WeakMap<Method, Shadow>();

/** Times about one check in `every`; the returned function ends it. */
export function sampleChecks(limiter: object, every: number, onSample: OnSample): () => void {
  const target = limiter as Target;
  const samplers = METHODS.map((method) => new Sampler(method, every, onSample));
  const ends = samplers.flatMap((sampler) => sampler.shadow(target));
  if (typeof target['open'] === 'function') {
    ends.push(
      shadow(target, 'open', (open) => (key) => {
        const peer = open.original.call(target, key) as Target;
        for (const sampler of samplers) sampler.shadow(peer);
        return peer;
      }),
    );
  }
  return () => {
    for (const sampler of samplers) sampler.end();
    for (const end of ends) end();
  };
}

/** Of one method, whoever has it: the limiter, and its opened peers. */
class Sampler {
  readonly #method: string;
  readonly #every: number;
  readonly #onSample: OnSample;
  #left: number;
  #ended = false;

  constructor(method: string, every: number, onSample: OnSample) {
    this.#method = method;
    this.#every = every;
    this.#onSample = onSample;
    this.#left = gap(every);
  }

  /** What ends it again; nothing where the target has no such method. */
  shadow(target: Target): (() => void)[] {
    if (typeof target[this.#method] !== 'function') return [];
    const end = shadow(target, this.#method, (check) => (first, second) => {
      this.#left -= 1;
      if (this.#left > 0) return check.original.call(target, first, second);
      if (!this.#ended) return this.#time(() => check.original.call(target, first, second));
      // Opened peers are not known to anybody, so each finds out by itself.
      end();
      return check.original.call(target, first, second);
    });
    return [end];
  }

  end(): void {
    this.#ended = true;
    this.#left = 0;
  }

  #time(check: () => unknown): unknown {
    this.#left = gap(this.#every);
    const started = performance.now();
    const answer = check();
    this.#onSample(this.#method, (performance.now() - started) / 1000);
    return answer;
  }
}

/** Puts a method in another's place; the returned function takes it out again. */
function shadow(target: Target, name: string, make: (shadow: Shadow) => Method): () => void {
  const entry = { original: target[name] as Method, wasOwn: Object.hasOwn(target, name) };
  const method = make(entry);
  shadows.set(method, entry);
  put(target, name, method);
  return () => {
    if (target[name] === method) {
      if (entry.wasOwn) put(target, name, entry.original);
      else delete target[name];
      return;
    }
    // Another of these stands before it. Before one of somebody else it stays, and samples no longer.
    let above = shadows.get(target[name] as Method);
    while (above !== undefined && above.original !== method) above = shadows.get(above.original);
    if (above !== undefined) Object.assign(above, entry);
  };
}

function put(target: Target, name: string, method: Method): void {
  Object.defineProperty(target, name, { value: method, configurable: true, writable: true });
}

// A fixed step would always meet the same peer of a round that is as long.
function gap(every: number): number {
  return 1 + Math.floor(Math.random() * (2 * every - 1));
}
