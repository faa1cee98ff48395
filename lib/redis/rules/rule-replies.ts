// RuleReplies applies the replies of the store: to the leases of this node, and to the check that a request is about.

import { delaySeconds } from '../../engine/js/rules/decision.js';
import type { RuleAnswer } from '../../engine/rules.js';
import { ALLOWED } from '../../rules/verdicts.js';
import { RETRY_SECONDS } from '../store/timing.js';
import type { RuleAsker } from './rule-asker.js';
import type { RuleBuckets } from './rule-buckets.js';
import type { RuleFailures } from './rule-failures.js';
import type { RuleJudge } from './rule-judge.js';
import { type AskedRule, type CheckReply, type RuleRequest, writeCosts } from './rule-request.js';
import type { RuleTables } from './rule-tables.js';

/** More than clocks drift apart. */
const MAX_DRIFT = 0.01;
/** A refusal holds until so many such checks would be allowed, or RETRY_SECONDS: a request per check would be expensive. */
const RETRY_CHECKS = 10;

export class RuleReplies {
  readonly #judge: RuleJudge;
  readonly #buckets: RuleBuckets;
  readonly #tables: RuleTables | undefined;
  readonly #failures: RuleFailures;
  readonly #asker: RuleAsker;
  readonly #shortLeaseSeconds: number;

  constructor(
    judge: RuleJudge,
    buckets: RuleBuckets,
    tables: RuleTables | undefined,
    failures: RuleFailures,
    asker: RuleAsker,
    shortLeaseSeconds: number,
  ) {
    this.#judge = judge;
    this.#buckets = buckets;
    this.#tables = tables;
    this.#failures = failures;
    this.#asker = asker;
    this.#shortLeaseSeconds = shortLeaseSeconds;
  }

  /** Applies a reply, and calls `answer` if it decides a check: the results are in RULE_NUMBERS. */
  conclude(
    request: RuleRequest,
    reply: CheckReply,
    now: number,
    answer: (answer: RuleAnswer | undefined) => void,
  ): void {
    const { question, rules, spent, check } = request;
    const judge = this.#judge;
    const isLate = reply.isAllowed && !this.#isHeld(request, now);
    if (question.plan !== judge.plan) {
      // What it has leased ends by itself.
      check?.answer(reply.isAllowed && !isLate ? ALLOWED : this.#failures.outdated());
      return;
    }
    if (isLate && check?.isDone === false) check.answer(this.#failures.overload());
    const isDecided = check !== undefined && !check.isDone;
    writeCosts(question.costs);
    if (isDecided) {
      judge.begin(question.mask, question.program);
      for (const rule of request.refused) judge.setRefused(rule, 0);
      for (const { rule, scope, slot, id } of spent) {
        const table = this.#tables?.of(scope);
        const place = table?.find(id);
        const rate = this.#buckets.rate(rule, question.program);
        const used = place === undefined ? 0 : table?.estimatedUsed(place, slot, rate, now);
        judge.setAllowed(rule, used ?? 0);
      }
    }
    for (const [at, asked] of rules.entries()) {
      const { used } = reply.rules[at] as CheckReply['rules'][number];
      const refusedSeconds = this.#apply(request, asked, reply, at, now);
      if (isDecided) {
        if (refusedSeconds > 0 && this.#tables !== undefined) {
          judge.setRefused(asked.rule, refusedSeconds);
        } else judge.setUsed(asked.rule, used);
      } else if (refusedSeconds > 0 && check === undefined && this.#buckets.isDryRun(asked.rule)) {
        if (asked.cost > 0) judge.countDryRefusal(asked.rule);
      }
    }
    if (this.#tables !== undefined && (isLate || !reply.isAllowed)) {
      for (const one of spent) this.#asker.giveBack(this.#tables, one);
    }
    if (isDecided) answer(judge.conclude());
  }

  /**
   * Whether the store still counts what the check costs as spent from now on. If this process was stopped meanwhile, it has
   * refilled it, and the check must not be admitted. In mode `strict` a check counts when the store decides it.
   */
  #isHeld({ rules, spent, leaseId, requestedAt }: RuleRequest, now: number): boolean {
    const tables = this.#tables;
    if (tables === undefined) return true;
    if (now >= requestedAt + this.#shortLeaseSeconds * (1 - MAX_DRIFT)) return false;
    if (spent.some(({ ends }) => now >= ends)) return false;
    return rules.every(({ scope, slot, id, cost }) => {
      const place = tables.of(scope).find(id);
      return (
        cost === 0 || place === undefined || !tables.of(scope).isReported(place, slot, leaseId)
      );
    });
  }

  /** Records what the store has said of a rule. Returns for how many seconds it refuses, or 0. */
  #apply(
    { question, leaseId, requestedAt }: RuleRequest,
    { rule, scope, slot, id, cost, least }: AskedRule,
    { isAllowed, rules }: CheckReply,
    at: number,
    now: number,
  ): number {
    const { used, granted, isCarried, lifetime } = rules[at] as CheckReply['rules'][number];
    const { program } = question;
    const needed = cost + least;
    const rate = this.#buckets.rate(rule, program);
    const burst = this.#buckets.burst(rule, program);
    const fits = used + needed <= burst;
    const seconds = fits
      ? 0
      : Math.max(
          delaySeconds(used, needed, burst, rate),
          Math.min(RETRY_SECONDS, (RETRY_CHECKS * Math.max(1, needed)) / rate),
        );
    const table = this.#tables?.of(scope);
    const place = table?.find(id);
    if (table === undefined || place === undefined) return seconds;
    const taken = fits && (isAllowed || this.#buckets.isDryRun(rule)) ? cost : 0;
    const plan = Math.floor(program / this.#judge.plan.actions);
    table.setUsed(place, slot, used + taken + granted, plan, requestedAt);
    if (granted > 0) {
      const ends = requestedAt + lifetime * (1 - MAX_DRIFT);
      table.grant(place, slot, { tokens: granted, isCarried, ends, leaseId });
    } else if (taken > 0) {
      table.hold(place, slot, leaseId);
    }
    if (!fits) table.refuse(place, slot, needed, now + seconds);
    return seconds;
  }
}
