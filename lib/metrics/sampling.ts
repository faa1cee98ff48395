// How long checks take, by sampling: the check methods of one limiter are shadowed on the instance, so
// that a limiter that nobody measures runs exactly what it always ran.

// Of all that are timed: cost is left out, or undefined, which is the same.
type Check = (key: unknown, cost?: unknown) => unknown;
type Checked = Record<string, unknown>;

/** Told of a sampled check: its method, and how long it took in seconds. */
export type OnSample = (method: string, seconds: number) => void;

const METHODS = ['check', 'checkMessage', 'checkOrderbook'];

/** Times about one check in `every`; the returned function ends it. */
export function sampleChecks(limiter: object, every: number, onSample: OnSample): () => void {
  const checked = limiter as Checked;
  const ends = METHODS.filter((method) => typeof checked[method] === 'function').map((method) =>
    shadow(checked, method, every, (seconds) => onSample(method, seconds)),
  );
  return () => {
    for (const end of ends) end();
  };
}

function shadow(
  limiter: Checked,
  method: string,
  every: number,
  onSample: (seconds: number) => void,
): () => void {
  const own = Object.getOwnPropertyDescriptor(limiter, method);
  const original = limiter[method] as Check;
  let left = gap(every);
  const sampled: Check = (key, cost) => {
    left -= 1;
    if (left > 0) return original.call(limiter, key, cost);
    left = gap(every);
    const started = performance.now();
    const answer = original.call(limiter, key, cost);
    onSample((performance.now() - started) / 1000);
    return answer;
  };
  Object.defineProperty(limiter, method, { value: sampled, configurable: true, writable: true });
  return () => {
    left = Infinity;
    // Another may have shadowed it since, and goes on calling this one, which samples no longer.
    if (limiter[method] !== sampled) return;
    if (own === undefined) delete limiter[method];
    else Object.defineProperty(limiter, method, own);
  };
}

// A fixed step would always meet the same peer of a round that is as long.
function gap(every: number): number {
  return 1 + Math.floor(Math.random() * (2 * every - 1));
}
