// RuleUpdates: the rules of a node as a text that all nodes can read, and their replacement while it runs.

import { compile, type RuleBook, readSections, type Sections } from '../../rules/compile.js';
import type { LimiterContext } from '../../rules/limiter-context.js';
import { readOptionsText, sectionsText } from '../../rules/shared-rules.js';
import { storeError } from '../store/replies.js';
import type { VersionOwner } from '../store/version-watch.js';
import { SECTIONS } from './options.js';

export class RuleUpdates implements VersionOwner {
  readonly onFailure: (error: Error) => void;
  readonly #context: LimiterContext;
  readonly #replace: (book: RuleBook) => void;
  /** The text of the current rules, which may be long. */
  #text: { readonly sections: Sections; readonly content: string } | undefined;

  /** `replace`: replaces the rules of the limiter. May throw: then nothing has changed. */
  constructor(
    context: LimiterContext,
    replace: (book: RuleBook) => void,
    onFailure: (error: Error) => void,
  ) {
    this.#context = context;
    this.#replace = replace;
    this.onFailure = onFailure;
  }

  readonly current = (): string => {
    const { scopes, book } = this.#context;
    const { sections } = book;
    if (this.#text?.sections !== sections) {
      this.#text = { sections, content: sectionsText(scopes, sections) };
    }
    return this.#text.content;
  };

  /** The rules with some sections replaced. @throws `ERR_LIMITER_OPTION` */
  textWith(given: Readonly<Record<string, unknown>>): string {
    const { scopes, book } = this.#context;
    const sections = readSections(given, scopes, book.sections);
    compile(scopes, sections, book);
    return sectionsText(scopes, sections);
  }

  /** Adopts the rules of another node. @throws `ERR_LIMITER_STORE`, `ERR_LIMITER_MEMORY` */
  readonly adopt = (content: string): void => {
    const { scopes, book } = this.#context;
    let next: RuleBook;
    try {
      const [theirs, ours] = [readOptionsText(content), readOptionsText(this.current())];
      const differs = (name: keyof typeof theirs) =>
        JSON.stringify(theirs[name]) !== JSON.stringify(ours[name]);
      if (differs('scopes')) throw new TypeError('they are of other scopes');
      // Checks in flight go on if only lists have changed.
      const changed = SECTIONS.filter(differs).map((name) => [name, theirs[name]]);
      const sections = readSections(Object.fromEntries(changed), scopes, book.sections);
      next = compile(scopes, sections, book);
    } catch (cause) {
      const reason = (cause as Error).message;
      throw storeError(`the rules in the store cannot be used: ${reason}`, cause);
    }
    this.#replace(next);
  };
}
