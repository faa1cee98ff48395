// What a metric is called, and how its values are had from what is watched.

export type Labels = Record<string, string>;
export type Value = [labels: Labels, value: number];

export interface Description {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

/** A metric of one watched thing; no values where it does not know them. */
export interface Definition<Figures> extends Description {
  values(figures: Figures): Value[];
}

export interface Definitions<Figures> {
  readonly counters: readonly Definition<Figures>[];
  readonly gauges: readonly Definition<Figures>[];
}

/** A number without labels of its own. */
export function plain(value: number): Value[] {
  return [[{}, value]];
}
