// RuleChecks decides checks by leases and by the store: all rules of a check, or none takes anything.
//
// In mode `leased` a check is decided here if each of its rules has enough tokens on lease, or one is known to refuse. If
// not, one call of the script `check` takes the cost of the rules that are not covered, and leases tokens ahead of use for
// the next ones. What the covered rules pay is taken before the call, and given back if it refuses. A lease ends here before
// it ends in the store; see ../limit/lease-manager.ts. In mode `strict` each check is a call that leases nothing.
//
// A key of a new peer gets no lease with its first check: many peers come once.

import { detached } from '../../common/timers.js';
import type { RuleAnswer } from '../../engine/rules.js';
import type { RuleVerdict } from '../../rules/types.js';
import { verdict } from '../../rules/verdicts.js';
import { KeyMap } from '../../tables/key-map.js';
import type { Place } from '../../tables/table.js';
import { invalidReplyError } from '../store/replies.js';
import type { ReplyClock } from '../store/reply-clock.js';
import { RETRY_SECONDS } from '../store/timing.js';
import type { SharedRuleConfig } from './options.js';
import { RuleAsker } from './rule-asker.js';
import type { RuleBuckets } from './rule-buckets.js';
import type { CostlyRule, RuleFailures } from './rule-failures.js';
import { type RuleId, type RuleJudge, scopeOf, slotOf } from './rule-judge.js';
import { COVERED, REFUSED, RuleLookup, UNCOVERED } from './rule-lookup.js';
import { RulePeeks } from './rule-peeks.js';
import { RuleReplies } from './rule-replies.js';
import {
  type AskedRule,
  type Check,
  type CheckReply,
  type Outcome,
  PendingRuleCheck,
  questionOf,
  type RuleQuestion,
  type RuleRequest,
  readCheckReply,
  type SpentRule,
  writeCosts,
} from './rule-request.js';
import type { RuleStore } from './rule-store.js';
import type { RuleTables } from './rule-tables.js';

/** The store must decide. Nothing has changed. */
export const NEEDS_STORE = 0;

export class RuleChecks {
  readonly #config: SharedRuleConfig;
  readonly #store: RuleStore;
  readonly #judge: RuleJudge;
  readonly #buckets: RuleBuckets;
  /** Undefined in mode `strict`. */
  readonly #tables: RuleTables | undefined;
  readonly #failures: RuleFailures;
  /** Shapes an answer in RULE_NUMBERS. */
  readonly #outcomeOf: (answer: RuleAnswer | undefined, question: RuleQuestion) => Outcome;
  /** By scope and key, the first request in flight that asks of it. */
  readonly #requests: readonly KeyMap<RuleRequest>[];
  readonly #inFlight = new Set<RuleRequest>();
  #onIdle: (() => void)[] = [];
  readonly #lookup: RuleLookup;
  readonly peeks: RulePeeks;
  readonly #asker: RuleAsker;
  readonly #replies: RuleReplies;
  readonly #clock: ReplyClock;

  constructor(parts: {
    config: SharedRuleConfig;
    store: RuleStore;
    judge: RuleJudge;
    buckets: RuleBuckets;
    tables: RuleTables | undefined;
    failures: RuleFailures;
    clock: ReplyClock;
    outcomeOf: (answer: RuleAnswer | undefined, question: RuleQuestion) => Outcome;
  }) {
    this.#config = parts.config;
    this.#store = parts.store;
    this.#judge = parts.judge;
    this.#buckets = parts.buckets;
    this.#tables = parts.tables;
    this.#failures = parts.failures;
    this.#clock = parts.clock;
    this.#outcomeOf = parts.outcomeOf;
    const scopes = parts.config.scopes.length;
    this.#requests = Array.from({ length: scopes }, () => new KeyMap<RuleRequest>());
    this.#lookup = new RuleLookup(scopes, this.#judge, this.#buckets);
    this.peeks = new RulePeeks({
      ...parts,
      lookup: this.#lookup,
      inFlight: this.#inFlight,
      now: () => this.#clock.readInReply(),
    });
    this.#asker = new RuleAsker(
      parts.config,
      this.#store.nodeId,
      this.#judge,
      this.#buckets,
      this.#lookup,
    );
    this.#replies = new RuleReplies(
      this.#judge,
      this.#buckets,
      this.#tables,
      this.#failures,
      this.#asker,
      parts.config.shortLeaseSeconds,
    );
  }

  /**
   * Decides a check by what this node knows; the results are in RULE_NUMBERS. NEEDS_STORE if that is not enough. The costs
   * are in RULE_NUMBERS.
   */
  decideLocally(
    ids: RuleQuestion['ids'],
    mask: number,
    program: number,
    now: number,
  ): RuleAnswer | undefined | typeof NEEDS_STORE {
    const tables = this.#tables;
    if (tables === undefined) return NEEDS_STORE;
    const lookup = this.#lookup;
    const known = lookup.look(tables, ids, mask, program, now);
    if (known === UNCOVERED) return NEEDS_STORE;
    const judge = this.#judge;
    judge.begin(mask, program);
    let needsRenewal = false;
    let hasUncovered = false;
    for (let n = 0; n < lookup.count; n += 1) {
      const rule = lookup.rules[n] as RuleId;
      const scope = scopeOf(rule);
      const slot = slotOf(rule);
      const place = lookup.places[scope] as Place;
      const table = tables.of(scope);
      if (lookup.known[n] === REFUSED) {
        judge.setRefused(rule, lookup.seconds[n] as number);
        continue;
      }
      const rate = this.#buckets.rate(rule, program);
      judge.setAllowed(rule, place < 0 ? 0 : table.estimatedUsed(place, slot, rate, now));
      if (lookup.known[n] === UNCOVERED) hasUncovered = true;
      else if (known === COVERED || this.#buckets.isDryRun(rule)) {
        const cost = judge.costOf(rule);
        if (cost > 0 && table.spend(place, slot, cost)) needsRenewal = true;
      }
    }
    const needsStore = known === COVERED && (needsRenewal || hasUncovered);
    const question = needsStore ? questionOf(ids, mask, program, judge.plan) : undefined;
    const answer = judge.conclude();
    if (question !== undefined) this.#renew(tables, question, now);
    return answer;
  }

  /** Makes a request that covers the next such check. The costs are in RULE_NUMBERS. */
  requestAhead(question: RuleQuestion, now: number): RuleVerdict {
    if (this.#store.state === 'down') return this.#failures.fallback(question);
    const first = this.#lookup.firstUncovered();
    if (this.#requests[first]?.has(question.ids[first] ?? '') !== true) {
      if (this.#store.isFull) return this.#failures.overload();
      this.#request(question, undefined, now);
    }
    return delayed(this.#config.deadlineSeconds);
  }

  /** Resolves with the verdict, after a call of the store. Call this after decideLocally() has returned NEEDS_STORE. */
  ask(question: RuleQuestion, now: number): Promise<RuleVerdict> {
    return new Promise<RuleVerdict>((resolve) => {
      const check: Check = new PendingRuleCheck<RuleVerdict>(
        question,
        resolve,
        (late, wasBlocked) => this.#failures.late(question, late.startedAt, wasBlocked),
      );
      this.#decideByStore(check, now);
      if (!check.isDone) this.#store.deadlines.add(check);
    });
  }

  /** Returns what is on lease for a key; if a request is in flight, after its reply. */
  release(scope: number, id: string): void {
    const request = this.#requests[scope]?.get(id);
    const release = () => this.#tables?.release(scope, id);
    if (request === undefined) release();
    else request.releases.push(release);
  }

  /** As `RuleLookup.costlyRules`. */
  costlyRules(question: RuleQuestion): CostlyRule[] {
    return this.#lookup.costlyRules(question);
  }

  /** Resolves when no request is in flight. */
  async whenIdle(): Promise<void> {
    if (this.#inFlight.size > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  /** Takes the costs of a check (sign 1) without asking, or gives them back (sign -1). */
  async settle(question: RuleQuestion, sign: 1 | -1): Promise<void> {
    const rules = this.#lookup.costlyRules(question);
    if (rules.length === 0) return;
    const now = this.#clock.readInReply();
    const call = this.#asker.settlement(rules, question.program, this.#tables, sign, now);
    await this.#store.run('settle', call.keys, call.args);
    if (sign > 0 || this.#tables === undefined || question.plan !== this.#judge.plan) return;
    for (const { rule, id } of rules) {
      const scope = scopeOf(rule);
      const place = this.#tables.of(scope).find(id);
      if (place !== undefined) this.#tables.of(scope).forgive(place, slotOf(rule));
    }
  }

  /** Whether a request for a key is in flight. */
  isBusy(scope: number, id: string): boolean {
    return this.#requests[scope]?.has(id) === true;
  }

  #decideByStore(check: Check, now: number): void {
    const { question } = check;
    if (this.#store.state === 'down') {
      check.answer(this.#failures.fallback(question));
      return;
    }
    if (this.#tables !== undefined) {
      const first = this.#lookup.firstUncovered();
      const request = this.#requests[first]?.get(question.ids[first] ?? '');
      if (request !== undefined) {
        request.waiting.push(check);
        return;
      }
    }
    if (this.#store.isFull) check.answer(this.#failures.overload());
    else this.#request(question, check, now);
  }

  /** Decides a check that has waited for a request. */
  #decideAgain(check: Check): void {
    if (check.isDone) return;
    const now = this.#clock.readInReply();
    const { question } = check;
    if (question.plan !== this.#judge.plan) {
      check.answer(this.#failures.outdated());
      return;
    }
    writeCosts(question.costs);
    const answer = this.decideLocally(question.ids, question.mask, question.program, now);
    if (answer === NEEDS_STORE) this.#decideByStore(check, now);
    else this.#answer(check, answer);
  }

  /** Sends a request for the rules that are not covered; in mode `strict` for all. The costs are in RULE_NUMBERS. */
  #request(question: RuleQuestion, check: Check | undefined, now: number): void {
    const tables = this.#tables;
    if (tables === undefined) {
      const rules = this.#asker.all(question);
      this.#send({ question, rules, spent: [], refused: [], check, now, leaseId: 0 });
      return;
    }
    const rules: AskedRule[] = [];
    const spent: SpentRule[] = [];
    const refused: RuleId[] = [];
    const lookup = this.#lookup;
    for (let n = 0; n < lookup.count; n += 1) {
      const rule = lookup.rules[n] as RuleId;
      const cost = this.#judge.costOf(rule);
      if (lookup.known[n] === UNCOVERED) {
        const asked = this.#asker.uncovered(tables, rule, cost, question, check !== undefined, now);
        if (asked === undefined) {
          check?.answer(delayed(RETRY_SECONDS));
          for (const one of spent) this.#asker.giveBack(tables, one);
          return;
        }
        rules.push(asked);
      } else if (lookup.known[n] === COVERED && cost > 0 && check !== undefined) {
        spent.push(this.#asker.spend(tables, rule, cost, question));
      } else if (lookup.known[n] === REFUSED) {
        refused.push(rule);
      }
    }
    this.#send({ question, rules, spent, refused, check, now, leaseId: tables.nextLeaseId() });
  }

  /** Requests the next lease of the rules of which little is left, and takes what rules on dry run cost. */
  #renew(tables: RuleTables, question: RuleQuestion, now: number): void {
    if (this.#store.state === 'down' || this.#store.isFull) return;
    writeCosts(question.costs);
    const rules: AskedRule[] = [];
    const lookup = this.#lookup;
    for (let n = 0; n < lookup.count; n += 1) {
      const rule = lookup.rules[n] as RuleId;
      const scope = scopeOf(rule);
      if (this.isBusy(scope, question.ids[scope] ?? '')) continue;
      const cost = this.#judge.costOf(rule);
      if (cost === 0 || lookup.known[n] === REFUSED) continue;
      const asked =
        lookup.known[n] === UNCOVERED
          ? this.#asker.uncovered(tables, rule, cost, question, true, now)
          : this.#asker.renewal(tables, rule, cost, question, now);
      if (asked !== undefined) rules.push(asked);
    }
    if (rules.length === 0) return;
    const leaseId = tables.nextLeaseId();
    this.#send({ question, rules, spent: [], refused: [], check: undefined, now, leaseId });
  }

  #send({
    now,
    ...parts
  }: Pick<RuleRequest, 'question' | 'rules' | 'spent' | 'refused' | 'check' | 'leaseId'> & {
    now: number;
  }): void {
    const request: RuleRequest = { ...parts, requestedAt: now, waiting: [], releases: [] };
    const { question, rules, leaseId, check } = request;
    if (rules.length === 0) {
      // In mode `strict`, if no rule applies.
      this.#conclude(request, { isAllowed: true, rules: [] }, now);
      return;
    }
    if (this.#tables !== undefined) {
      for (const { scope, id } of rules) {
        if (this.#requests[scope]?.has(id) === false) this.#requests[scope]?.set(id, request);
      }
    }
    this.#inFlight.add(request);
    const { keys, args } = this.#asker.call(question, rules, leaseId);
    const answered = (text: string) => {
      this.#forget(request);
      const reply = readCheckReply(text, rules.length);
      if (reply === undefined) this.#failed(request, invalidReplyError());
      else this.#conclude(request, reply, this.#clock.readInReply());
      this.#ended(request);
    };
    const failed = (error: Error) => {
      this.#forget(request);
      this.#failed(request, error);
      this.#ended(request);
    };
    // Detached: a request that leases for later checks serves other callers than the one of this check.
    const send = () => this.#store.call('check', keys, args, answered, failed);
    if (check === undefined) detached(send);
    else send();
  }

  #conclude(request: RuleRequest, reply: CheckReply, now: number): void {
    const { check } = request;
    this.#replies.conclude(request, reply, now, (answer) => {
      if (check !== undefined) this.#answer(check, answer);
    });
  }

  #answer(check: Check, answer: RuleAnswer | undefined): void {
    const { verdict, ifBanned } = this.#outcomeOf(answer, check.question);
    if (ifBanned === undefined) check.answer(verdict);
    else check.answerLater(verdict, ifBanned);
  }

  #forget(request: RuleRequest): void {
    for (const { scope, id } of request.rules) {
      if (this.#requests[scope]?.get(id) === request) this.#requests[scope]?.delete(id);
    }
  }

  /** Decides the checks that have waited for a request. */
  #ended(request: RuleRequest): void {
    const { waiting, releases } = request;
    if (waiting.length > 0) {
      // Detached: the reply came in the async context of the request's caller, the next request serves others.
      detached(() => {
        for (const check of waiting) this.#decideAgain(check);
      });
    }
    for (const release of releases) release();
    this.#inFlight.delete(request);
    if (this.#inFlight.size === 0) for (const resolve of this.#onIdle.splice(0)) resolve();
  }

  #failed({ question, check, spent }: RuleRequest, error: Error): void {
    const isCurrent = question.plan === this.#judge.plan;
    if (this.#tables !== undefined && isCurrent) {
      for (const one of spent) this.#asker.giveBack(this.#tables, one);
    }
    if (check !== undefined && !check.isDone) {
      check.answer(this.#failures.fallback(question, error));
    }
  }
}

function delayed(seconds: number): RuleVerdict {
  return verdict('delay', seconds, null, null, null);
}
