// The sliders, numbers and buttons of the page. They are built from a scenario; each reports the changed scenario.

import { element } from './dom.js';
import { LABELS, POSITIONS, positionOf, SCALES, type Scale, valueAt } from './numbers.js';
import type { Scenario, Sender } from './scenario.js';

type Path = readonly (string | number)[];

/** What the controls need of the page. */
export interface Editor {
  /** The scenario as it is now. */
  current(): Scenario;
  /** `rebuild`: the controls must be built anew. */
  change(next: Scenario, rebuild: boolean): void;
}

const NEW_POLICY = { violations: 10, withinSeconds: 30, seconds: [5, 10, 20] };
const NUMBERS_OF_RULE = ['rateLimit', 'quota', 'windowSeconds', 'burstLimit'];

/** Returns the scenario with another value at `path`; `undefined` removes the field. */
export function withValue(scenario: Scenario, path: Path, value: unknown): Scenario {
  const copy = structuredClone(scenario);
  let at = copy as unknown as Record<string | number, unknown>;
  for (const name of path.slice(0, -1)) {
    at[name] ??= {};
    at = at[name] as Record<string | number, unknown>;
  }
  const last = path.at(-1) as string | number;
  if (value !== undefined) at[last] = value;
  else if (Array.isArray(at)) at.splice(last as number, 1);
  else delete at[last];
  return copy;
}

export function ruleControls(editor: Editor): HTMLElement[] {
  const { rules, scopes } = editor.current().options;
  return Object.entries(rules).map(([name, rule]) => {
    const path = ['options', 'rules', name];
    const numbers = NUMBERS_OF_RULE.filter((field) => field in rule);
    const scope = element('select', { 'aria-label': `scope of ${name}` }, [
      ...Object.keys(scopes).map((each) =>
        element('option', { value: each, selected: each === rule.scope }, [`by ${each}`]),
      ),
    ]);
    scope.addEventListener('change', () => {
      editor.change(withValue(editor.current(), [...path, 'scope'], scope.value), true);
    });
    return group(editor, name, path, Object.keys(rules).length > 1, [
      element('label', { class: 'check' }, [scope]),
      ...numbers.map((field) =>
        slider(editor, `${name}: `, [...path, field], field, (rule as never)[field]),
      ),
      check(editor, 'dry run: counts, refuses nothing', [...path, 'dryRun'], rule.dryRun === true),
    ]);
  });
}

export function banControls(editor: Editor): HTMLElement[] {
  const { scopes, bans = {} } = editor.current().options;
  return Object.entries(scopes)
    .filter(([, scope]) => scope.single !== true)
    .map(([name]) => {
      const path = ['options', 'bans', name];
      const policy = bans[name];
      const box = element('input', { type: 'checkbox', checked: policy !== undefined });
      box.addEventListener('change', () => {
        const value = box.checked ? NEW_POLICY : undefined;
        editor.change(withValue(editor.current(), path, value), true);
      });
      const about = `bans by ${name}: `;
      return element('fieldset', {}, [
        element('legend', {}, [element('label', { class: 'check' }, [box, `by ${name}`])]),
        ...(policy === undefined
          ? []
          : [
              slider(editor, about, [...path, 'violations'], 'violations', policy.violations),
              slider(
                editor,
                about,
                [...path, 'withinSeconds'],
                'withinSeconds',
                policy.withinSeconds,
              ),
              ladder(editor, [...path, 'seconds'], policy.seconds),
            ]),
      ]);
    });
}

export function senderControls(editor: Editor): HTMLElement[] {
  const { senders } = editor.current();
  return senders.map((sender, index) => {
    const path = ['senders', index];
    const about = `${sender.name}: `;
    const row = (field: 'perSecond' | 'atOnce' | 'from' | 'until' | 'peers', value: number) =>
      slider(editor, about, [...path, field], field, value);
    return group(editor, sender.name, path, senders.length > 1, [
      row('perSecond', sender.perSecond),
      row('atOnce', sender.atOnce ?? 1),
      row('from', sender.from ?? 0),
      row('until', sender.until ?? 60),
      ...(sender.peers === undefined ? [] : [row('peers', sender.peers)]),
      check(editor, 'waits for the delay, and repeats', [...path, 'waits'], sender.waits === true),
    ]);
  });
}

/** Returns the scenario with one more rule, of its first scope. */
export function addRule(scenario: Scenario): Scenario {
  const { rules, scopes } = scenario.options;
  const name = freeName('rule', Object.keys(rules));
  const rule = { scope: Object.keys(scopes)[0] ?? '', rateLimit: 1, burstLimit: 10 };
  return withValue(scenario, ['options', 'rules', name], rule);
}

/** Returns the scenario with one more sender, which has a key of its own in every scope with keys. */
export function addSender(scenario: Scenario): Scenario {
  const { senders, options } = scenario;
  const name = freeName(
    'sender',
    senders.map((sender) => sender.name),
  );
  const number = senders.length + 1;
  const keys = Object.entries(options.scopes)
    .filter(([, { from, single }]) => from === undefined && single !== true)
    .map(([scope, { kind }]) => [scope, kind === 'address' ? `203.0.113.${number}` : name]);
  const sender: Sender = { name, keys: Object.fromEntries(keys), perSecond: 2 };
  return withValue(scenario, ['senders', senders.length], sender);
}

function freeName(word: string, taken: readonly string[]): string {
  for (let number = taken.length + 1; ; number += 1) {
    const name = `${word} ${number}`;
    if (!taken.includes(name)) return name;
  }
}

function group(
  editor: Editor,
  name: string,
  path: Path,
  removable: boolean,
  rows: readonly HTMLElement[],
): HTMLElement {
  const remove = element('button', { type: 'button', 'aria-label': `remove ${name}` }, ['Remove']);
  remove.addEventListener('click', () => {
    editor.change(withValue(editor.current(), path, undefined), true);
  });
  return element('fieldset', {}, [
    element('legend', {}, [name, ...(removable ? [remove] : [])]),
    ...rows,
  ]);
}

function slider(editor: Editor, about: string, path: Path, field: string, value: number) {
  const scale = SCALES[field] as Scale;
  const label = LABELS[field] as string;
  const range = element('input', {
    type: 'range',
    min: 0,
    max: POSITIONS,
    value: positionOf(value, scale),
    'aria-label': about + label,
    'aria-valuetext': value,
  });
  const box = element('input', {
    type: 'number',
    step: 'any',
    value,
    'aria-label': `${about}${label}, exactly`,
  });
  const report = (next: number) => {
    range.setAttribute('aria-valuetext', String(next));
    editor.change(withValue(editor.current(), path, next), false);
  };
  range.addEventListener('input', () => {
    const next = valueAt(Number(range.value), scale);
    box.value = String(next);
    report(next);
  });
  box.addEventListener('input', () => {
    // An empty or unfinished number waits for its next character.
    if (!Number.isFinite(box.valueAsNumber)) return;
    range.value = String(positionOf(box.valueAsNumber, scale));
    report(box.valueAsNumber);
  });
  return element('div', { class: 'row' }, [element('span', {}, [label]), range, box]);
}

/** The lengths of the first, second ... ban, as text. */
function ladder(editor: Editor, path: Path, value: number | readonly number[]): HTMLElement {
  const label = 'first, second … ban, seconds';
  const text = [value].flat().join(', ');
  const box = element('input', { type: 'text', value: text, 'aria-label': label });
  box.addEventListener('input', () => {
    const lengths = box.value.split(',').map((part) => Number(part.trim() || Number.NaN));
    if (lengths.some(Number.isNaN)) return;
    editor.change(withValue(editor.current(), path, lengths), false);
  });
  return element('div', { class: 'row' }, [element('span', {}, [label]), box]);
}

function check(editor: Editor, label: string, path: Path, value: boolean): HTMLElement {
  const box = element('input', { type: 'checkbox', checked: value });
  box.addEventListener('change', () => {
    editor.change(withValue(editor.current(), path, box.checked || undefined), false);
  });
  return element('label', { class: 'check' }, [box, label]);
}
