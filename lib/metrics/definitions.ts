// Types that describe one metric: its name, its help text and how its values are read from statistics.

export type Labels = Record<string, string>;
export type Value = [labels: Labels, value: number];

/** One metric of each watched object. `values` returns an empty array if the value is unknown. */
export interface Definition<Stats> {
  readonly name: string;
  readonly help: string;
  /** Names of the labels besides that of the object. */
  readonly labels?: readonly string[];
  values(stats: Stats): Value[];
}

export interface Definitions<Stats> {
  readonly counters: readonly Definition<Stats>[];
  readonly gauges: readonly Definition<Stats>[];
}

/** One value without labels of its own. */
export function plain(value: number): Value[] {
  return [[{}, value]];
}
