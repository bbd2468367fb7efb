/**
 * The write rate limit: what keeps a guest that writes all the time from making everyone else's transactions fail for ever. As in
 * the C daemon (xenstored_domain.c, wrl_*): while a transaction is open, each write of a guest costs credit, which comes back
 * at a rate that all domains share; a guest below zero is not served until it has come back. What idle domains do not need goes to a
 * reserve, which lifts others up to zero. Domain-0 counts as an idle domain, its tools are exempt.
 */

/** Credit is in thousandths of a write. */
const FACTOR = 1000;
/** Credit a millisecond, for all domains together: 200 writes a second. */
const RATE_PER_MS = (200 * FACTOR) / 1000;
/** What one domain can save up. */
const DOMAIN_BURST = 10 * FACTOR;
/** What the reserve can save up. */
const RESERVE_MAX = 1000 * FACTOR;
/** How far new domains can overdraw the reserve: five of them. */
const RESERVE_OVERDRAFT = 5 * DOMAIN_BURST;

export class WriteCredit {
  value = 0;
}

export class WriteLimit {
  #reserve = 0;
  /** Domain-0 from the start. */
  #nrDomains = 1;
  /** Those that have less than they can save up; the income of all others is the reserve's. */
  readonly #wanting = new Set<WriteCredit>();
  #updatedMs: number | undefined;

  get reserve(): number {
    return this.#reserve;
  }

  /** A new domain's credit, out of the reserve. */
  open(nowMs: number): WriteCredit {
    this.update(nowMs);
    this.#nrDomains++;
    const credit = new WriteCredit();
    const given = Math.max(0, Math.min(this.#reserve + RESERVE_OVERDRAFT, DOMAIN_BURST));
    this.#reserve -= given;
    this.set(credit, given);
    return credit;
  }

  close(credit: WriteCredit): void {
    this.#nrDomains--;
    this.#wanting.delete(credit);
    this.#reserve += Math.max(0, Math.min(credit.value, DOMAIN_BURST - this.#reserve));
  }

  debit(credit: WriteCredit, writes: number, nowMs: number): void {
    this.update(nowMs);
    this.set(credit, credit.value - writes * FACTOR);
  }

  /** Milliseconds until it may write again; 0 when it may. Earlier than that it never may, later perhaps. */
  delayMs(credit: WriteCredit, nowMs: number): number {
    if (credit.value >= 0) return 0;
    this.update(nowMs);
    this.#lend(credit);
    if (credit.value >= 0) return 0;
    // Its own income, and the reserve's once that is not overdrawn.
    const shares = 1 + this.#nrDomains - this.#wanting.size;
    return Math.max(1, Math.ceil((-credit.value * this.#nrDomains) / (RATE_PER_MS * shares)));
  }

  set(credit: WriteCredit, value: number): void {
    credit.value = value;
    if (value < DOMAIN_BURST) this.#wanting.add(credit);
    else this.#wanting.delete(credit);
  }

  /** After a live update. */
  restoreReserve(reserve: number): void {
    this.#reserve = reserve;
  }

  /** Gives all domains what is due to them. */
  update(nowMs: number): void {
    const elapsedMs = this.#updatedMs === undefined ? 0 : nowMs - this.#updatedMs;
    if (elapsedMs <= 0 && this.#updatedMs !== undefined) return;
    this.#updatedMs = nowMs;
    const share = (elapsedMs * RATE_PER_MS) / this.#nrDomains;
    this.#save(share * (this.#nrDomains - this.#wanting.size));
    for (const credit of this.#wanting) {
      credit.value += share;
      this.#lend(credit);
      if (credit.value >= DOMAIN_BURST) {
        this.#save(credit.value - DOMAIN_BURST);
        this.set(credit, DOMAIN_BURST);
      }
    }
  }

  /** From the reserve, up to zero. */
  #lend(credit: WriteCredit): void {
    const lent = Math.min(this.#reserve, -credit.value);
    if (lent <= 0) return;
    this.#reserve -= lent;
    credit.value += lent;
  }

  /** To the reserve; what does not fit there is lost. */
  #save(surplus: number): void {
    this.#reserve = Math.min(RESERVE_MAX, this.#reserve + surplus);
  }
}
