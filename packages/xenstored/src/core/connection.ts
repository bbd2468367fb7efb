/** One client as the core knows it: a tool on the socket (Domain-0's rights) or a domain on its ring. No I/O. */
import type { Account } from './accounts.ts';
import { OutputQueue } from './output.ts';
import type { Subject } from './perms.ts';
import type { Transaction } from './transaction.ts';
import type { Watch } from './watches.ts';

export class StoreConnection implements Subject {
  /** Unique in the core, and kept over a live update. */
  readonly id: number;
  readonly domid: number;
  readonly privileged: boolean;
  /** On a ring: its watches, transactions and replies count for its domain. */
  readonly isRing: boolean;
  readonly account: Account;
  readonly birth: number;
  /** Where relative paths start. */
  readonly implicitPath: string;
  readonly output: OutputQueue;
  readonly watches = new Set<Watch>();
  readonly transactions = new Map<number, Transaction>();
  target: StoreConnection | undefined = undefined;
  /** Connections whose target this is. */
  readonly targetedBy = new Set<StoreConnection>();
  /** A request waits for the outside world (INTRODUCE): the transport holds later ones back until it is answered. */
  busy = false;
  /** Broke the ring protocol: is sent nothing. */
  ignored = false;
  /** Gone: what still refers to it must not reach it. */
  closed = false;
  nextTransactionId = 1;
  /** Set by the transport: there is output, or `busy` has ended. Called often, must be cheap and must not call back in. */
  wake: () => void = () => undefined;

  constructor(id: number, account: Account, isRing: boolean, birth: number) {
    this.id = id;
    this.domid = account.domid;
    this.privileged = account.domid === 0;
    this.isRing = isRing;
    this.account = account;
    this.birth = birth;
    this.implicitPath = `/local/domain/${account.domid}`;
    this.output = new OutputQueue(account, isRing);
  }
}
