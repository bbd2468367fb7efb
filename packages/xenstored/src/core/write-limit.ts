/**
 * The write rate limit: what keeps a guest that writes all the time from making everyone else's transactions fail for ever. As in
 * the C daemon (xenstored_domain.c, wrl_*): while a transaction is open, each write of a guest costs credit, which comes back
 * at a rate that all domains share; a guest below zero is not served until it has come back. Domain-0's tools are exempt.
 */

/** Credit is in thousandths of a write. */
const FACTOR = 1000;
/** Writes a second, shared by all domains. */
const RATE = 200 * FACTOR;
/** What one domain can save up. */
const DOMAIN_BURST = 10 * FACTOR;
/** What the reserve can save up. */
const GLOBAL_BURST = 1000 * FACTOR;
/** How far new domains can overdraw the reserve: five of them. */
const NEW_DOMAINS_BURST = 5 * DOMAIN_BURST;
const CREDIT_MAX = 1000 * 1000 * 1000;
const ELAPSED_MAX_MS = 1000 * 1000 * 1000;

export class WriteCredit {
  value: number;
  sinceMs: number;

  constructor(value: number, sinceMs: number) {
    this.value = value;
    this.sinceMs = sinceMs;
  }
}

export class WriteLimit {
  #reserve = 0;
  #nrDomains = 0;

  /** A new domain's credit, out of the reserve. */
  open(nowMs: number): WriteCredit {
    this.#nrDomains++;
    const given = Math.max(0, Math.min(this.#reserve + NEW_DOMAINS_BURST, DOMAIN_BURST));
    this.#reserve -= given;
    return new WriteCredit(given, nowMs);
  }

  close(credit: WriteCredit): void {
    this.#nrDomains--;
    const returned = Math.max(0, Math.min(credit.value, DOMAIN_BURST - this.#reserve));
    this.#reserve += returned;
  }

  debit(credit: WriteCredit, writes: number, nowMs: number): void {
    this.update(credit, nowMs);
    credit.value -= writes * FACTOR;
  }

  /** Milliseconds until it may write again; 0 when it may. */
  delayMs(credit: WriteCredit, nowMs: number): number {
    if (credit.value >= 0) return 0;
    this.update(credit, nowMs);
    return credit.value >= 0 ? 0 : Math.max(1, Math.trunc((-credit.value * 1000 * this.#nrDomains) / RATE));
  }

  update(credit: WriteCredit, nowMs: number): void {
    const elapsedMs = Math.max(0, Math.min(Math.trunc(nowMs - credit.sinceMs), ELAPSED_MAX_MS));
    credit.sinceMs += elapsedMs;
    credit.value = Math.min(
      credit.value + Math.trunc((elapsedMs * RATE) / (Math.max(1, this.#nrDomains) * 1000)),
      CREDIT_MAX,
    );
    // From the reserve, up to zero.
    const lent = Math.max(0, Math.min(this.#reserve, -credit.value));
    this.#reserve -= lent;
    credit.value += lent;
    // Above its burst, to the reserve; what does not fit there is lost.
    const surplus = Math.max(0, credit.value - DOMAIN_BURST);
    credit.value -= surplus;
    this.#reserve += Math.max(0, Math.min(surplus, GLOBAL_BURST - this.#reserve));
  }
}
