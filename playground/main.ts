// The page: connects the controls and texts with the simulation and its pictures.

import {
  addRule,
  addSender,
  banControls,
  type Editor,
  ruleControls,
  senderControls,
} from './controls.js';
import { byId, element } from './dom.js';
import { drawLanes, drawOverview, type Show } from './lanes.js';
import { PRESETS, type Preset } from './presets.js';
import { fromFragment, type Scenario, toFragment } from './scenario.js';
import { SECONDS, simulate, type Timeline } from './simulate.js';

/** Simulated seconds per second while it plays. */
const SPEED = 4;
/** Milliseconds from the last change until the page's address contains it. */
const LINK_DELAY = 300;

const preset = byId<HTMLSelectElement>('preset');
const note = byId('note');
const time = byId<HTMLInputElement>('time');
const now = byId<HTMLOutputElement>('now');
const play = byId<HTMLButtonElement>('play');
const error = byId('error');
const pictures = byId('pictures');
const optionsText = byId<HTMLTextAreaElement>('options');
const trafficText = byId<HTMLTextAreaElement>('traffic');

let scenario: Scenario;
let shows: readonly Show[] = [];
let playing: number | undefined;
let frame: number | undefined;
let linking: ReturnType<typeof setTimeout> | undefined;

const editor: Editor = {
  current: () => scenario,
  change(next, rebuild) {
    scenario = next;
    writeTexts();
    if (rebuild) buildControls();
    // Before the next frame, once for however many changes.
    if (frame !== undefined) cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
    clearTimeout(linking);
    linking = setTimeout(writeLink, LINK_DELAY);
  },
};

/** Simulates the scenario and draws it. If it is invalid, the last pictures stay, and the error is shown. */
function draw(): void {
  try {
    drawTimeline(simulate(scenario));
  } catch (problem) {
    report(problem);
  }
}

function drawTimeline(timeline: Timeline): void {
  shows = [drawOverview(byId('overview'), timeline), drawLanes(byId('lanes'), timeline)];
  report(undefined);
  show();
}

/** Puts the scenario into the page's address. Browsers refuse to do that very often. */
function writeLink(): void {
  history.replaceState(null, '', `#${toFragment(scenario)}`);
}

function report(problem: unknown): void {
  error.hidden = problem === undefined;
  error.textContent = problem instanceof Error ? problem.message : String(problem ?? '');
  pictures.classList.toggle('stale', problem !== undefined);
}

/** Moves the cursor and the buckets to the time of the slider. */
function show(): void {
  const seconds = Number(time.value);
  now.textContent = `${seconds.toFixed(1)} s`;
  pictures.style.setProperty('--share', String(seconds / SECONDS));
  for (const update of shows) update(seconds);
}

function buildControls(): void {
  byId('rules').replaceChildren(...ruleControls(editor));
  byId('bans').replaceChildren(...banControls(editor));
  byId('senders').replaceChildren(...senderControls(editor));
}

function writeTexts(): void {
  // A text that is being edited stays as it was typed.
  if (document.activeElement !== optionsText) optionsText.value = pretty(scenario.options);
  if (document.activeElement !== trafficText) trafficText.value = pretty(scenario.senders);
}

/** JSON in which a short object or array is one line. */
function pretty(value: unknown, indent = ''): string {
  const flat = JSON.stringify(value, undefined, 1).replace(/\n\s*/g, ' ');
  if (typeof value !== 'object' || value === null || flat.length <= 76 - indent.length) return flat;
  const inner = `${indent}  `;
  const isArray = Array.isArray(value);
  const lines = Object.entries(value).map(([name, child]) => {
    return `${inner}${isArray ? '' : `${JSON.stringify(name)}: `}${pretty(child, inner)}`;
  });
  const [open, close] = isArray ? '[]' : '{}';
  return `${open}\n${lines.join(',\n')}\n${indent}${close}`;
}

/** Takes over an edited text, if it is valid. */
function readText(text: HTMLTextAreaElement, field: keyof Scenario): void {
  let value: never;
  try {
    value = JSON.parse(text.value) as never;
  } catch (problem) {
    report(new Error(`The text is no JSON: ${(problem as Error).message}`));
    return;
  }
  const next = { ...scenario, [field]: value };
  try {
    simulate(next);
  } catch (problem) {
    report(problem);
    return;
  }
  editor.change(next, true);
}

function choose({ options, senders, note: text }: Pick<Preset, 'options' | 'senders' | 'note'>) {
  scenario = structuredClone({ options, senders });
  note.textContent = text;
  writeTexts();
  buildControls();
  draw();
}

function startPlaying(): void {
  if (Number(time.value) >= SECONDS) time.value = '0';
  play.textContent = 'Pause';
  let last: number | undefined;
  let exact = Number(time.value);
  const step = (at: number) => {
    exact = Math.min(exact + ((at - (last ?? at)) / 1000) * SPEED, SECONDS);
    last = at;
    time.value = String(exact);
    show();
    if (exact < SECONDS) playing = requestAnimationFrame(step);
    else stopPlaying();
  };
  playing = requestAnimationFrame(step);
}

function stopPlaying(): void {
  if (playing !== undefined) cancelAnimationFrame(playing);
  playing = undefined;
  play.textContent = 'Play';
}

preset.append(...PRESETS.map(({ title }, index) => element('option', { value: index }, [title])));
preset.addEventListener('change', () => {
  clearTimeout(linking);
  history.replaceState(null, '', location.pathname);
  choose(PRESETS[Number(preset.value)] as Preset);
});
play.addEventListener('click', () => (playing === undefined ? startPlaying() : stopPlaying()));
time.addEventListener('input', () => {
  stopPlaying();
  show();
});
optionsText.addEventListener('input', () => readText(optionsText, 'options'));
trafficText.addEventListener('input', () => readText(trafficText, 'senders'));
for (const text of [optionsText, trafficText]) {
  // Unless it is invalid: then its author needs it.
  text.addEventListener('blur', () => error.hidden && writeTexts());
}
byId('add-rule').addEventListener('click', () => editor.change(addRule(scenario), true));
byId('add-sender').addEventListener('click', () => editor.change(addSender(scenario), true));

/** A click or a drag in a picture moves the cursor there. */
pictures.addEventListener('pointerdown', (event) => {
  const plot = (event.target as Element).closest('.plot');
  if (plot === null) return;
  const move = ({ clientX }: PointerEvent) => {
    const { left, width } = plot.getBoundingClientRect();
    time.value = String(((clientX - left) / width) * SECONDS);
    show();
  };
  stopPlaying();
  move(event);
  const end = new AbortController();
  const { signal } = end;
  addEventListener('pointermove', move, { signal });
  for (const name of ['pointerup', 'pointercancel']) {
    addEventListener(name, () => end.abort(), { signal });
  }
});

/** Starts with the scenario of the link, or with the first one. */
function start(): void {
  const [first] = PRESETS as readonly [Preset];
  const linked = fromFragment(location.hash.slice(1));
  if (linked === undefined) {
    choose(first);
    return;
  }
  try {
    simulate(linked);
    choose({ ...linked, note: '' });
  } catch (problem) {
    choose(first);
    report(problem);
  }
}

start();
if (!matchMedia('(prefers-reduced-motion: reduce)').matches) {
  time.value = '0';
  startPlaying();
}
