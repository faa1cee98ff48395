// Holds a stream back for a guard, whatever its user does with it meanwhile: a user's resume() must not
// let a flood in, and the guard's must not wake a stream that its user has paused.

import { override } from './override.js';

export interface Pausable {
  // biome-ignore lint/suspicious/noExplicitAny: a stream returns itself, a WebSocket nothing.
  pause(): any;
  // biome-ignore lint/suspicious/noExplicitAny: the same.
  resume(): any;
}

export class Hold {
  #isHeld = false;
  #isPaused = false;
  readonly #pause: () => unknown;
  readonly #resume: () => unknown;
  readonly #undo: readonly (() => void)[];

  /** `resumed`: its user has resumed it while it was held. */
  constructor(stream: Pausable, resumed: () => void) {
    const { pause, resume } = stream;
    this.#pause = () => pause.call(stream);
    this.#resume = () => resume.call(stream);
    this.#undo = [
      override(stream, 'pause', () => {
        this.#isPaused = true;
        return pause.call(stream);
      }),
      override(stream, 'resume', () => {
        this.#isPaused = false;
        if (!this.#isHeld) return resume.call(stream);
        resumed();
        return stream;
      }),
    ];
  }

  /** Whether the user has paused it. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  hold(): void {
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.#pause();
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    if (!this.#isPaused) this.#resume();
  }

  /** Releases it, and leaves its methods as they were. */
  end(): void {
    for (const undo of this.#undo) undo();
    this.release();
  }
}
