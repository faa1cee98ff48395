// Pauses a stream for a guard, whatever the user does with the stream meanwhile: resume() of the user does not end the
// guard's pause, and the end of the guard's pause does not resume a stream that the user has paused.

import { override } from './override.js';

export interface Pausable {
  // biome-ignore lint/suspicious/noExplicitAny: a stream returns itself, a WebSocket returns nothing.
  pause(): any;
  // biome-ignore lint/suspicious/noExplicitAny: the same.
  resume(): any;
}

export class PausableStream {
  #isPausedByGuard = false;
  #isPausedByUser = false;
  readonly #pause: () => unknown;
  readonly #resume: () => unknown;
  readonly #restore: readonly (() => void)[];

  /** `onUserResume` is called if the user resumes the stream while the guard's pause lasts. */
  constructor(stream: Pausable, onUserResume: () => void) {
    const { pause, resume } = stream;
    this.#pause = () => pause.call(stream);
    this.#resume = () => resume.call(stream);
    this.#restore = [
      override(stream, 'pause', () => {
        this.#isPausedByUser = true;
        return pause.call(stream);
      }),
      override(stream, 'resume', () => {
        this.#isPausedByUser = false;
        if (!this.#isPausedByGuard) return resume.call(stream);
        onUserResume();
        return stream;
      }),
    ];
  }

  get isPausedByUser(): boolean {
    return this.#isPausedByUser;
  }

  /** Begins the guard's pause. */
  pause(): void {
    if (this.#isPausedByGuard) return;
    this.#isPausedByGuard = true;
    this.#pause();
  }

  /** Ends the guard's pause. */
  resume(): void {
    if (!this.#isPausedByGuard) return;
    this.#isPausedByGuard = false;
    if (!this.#isPausedByUser) this.#resume();
  }

  /** Ends the guard's pause and restores the stream's own methods. */
  restore(): void {
    for (const restore of this.#restore) restore();
    this.resume();
  }
}
