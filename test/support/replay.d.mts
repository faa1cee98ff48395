import type * as library from 'relay-limiter';

export interface Trace {
  header: {
    cls: string;
    args: Record<string, number | null>;
    start: number;
    tags: string[];
    keys: string[];
  };
  operations: [name: string, ...rest: unknown[]][];
}

export function readTrace(file: string | URL): Trace;
export function replay(trace: Trace, limiters: typeof library, engine: library.EngineName): number;

/** `rate_limit` becomes `rateLimit`. */
export function camelCase(name: string): string;
