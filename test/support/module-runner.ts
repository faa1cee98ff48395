// Modules run one after another in a process of their own: to start one with the package and its peers for each takes a
// hundred times as long as most of them.

import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('run-modules.mjs', import.meta.url));

interface ModuleToRun {
  readonly file: string;
  /** The working folder. */
  readonly folder: string;
  /** Handed to the context. */
  readonly surroundings?: string;
  /** Whether nothing that it has begun may keep a process alive. Otherwise it is left running. Default false. */
  readonly mustEnd?: boolean;
}

export class ModuleRunner {
  readonly #child: ChildProcess;
  readonly #exited: Promise<never>;
  #last: Promise<unknown>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = once(child, 'exit').then(([code, signal]) => {
      throw new Error(`the process of the modules ended with ${code ?? signal}`);
    });
    this.#last = this.#answer();
    this.#last.catch(() => {});
  }

  /** Starts the process. The default export of the module `context` is called before each module. */
  static start(env: NodeJS.ProcessEnv = {}, context?: string): ModuleRunner {
    const args = context === undefined ? [] : [context];
    const options: ForkOptions = {
      env: { ...process.env, ...env },
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    };
    return new ModuleRunner(fork(PROGRAM, args, options));
  }

  /**
   * Runs a module, after those before it have run. Resolves with what went wrong: errors, also those that nothing catches,
   * and what was written to stderr. Rejects if the process has ended.
   */
  run(module: ModuleToRun): Promise<string[]> {
    const result = this.#last.then(() => {
      this.#child.send(module);
      return this.#answer();
    });
    this.#last = result;
    return result;
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }

  async #answer(): Promise<string[]> {
    const [answer] = await Promise.race([once(this.#child, 'message'), this.#exited]);
    return answer;
  }
}
