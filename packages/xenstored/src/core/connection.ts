/** One client as the core knows it: a tool on the socket (Domain-0's rights) or a domain on its ring. No I/O. */
import type { Account } from './accounts.ts';
import { OutputQueue } from './output.ts';
import type { Subject } from './perms.ts';
import type { Transaction } from './transaction.ts';
import type { Watch } from './watches.ts';

export class StoreConnection implements Subject {
  readonly domid: number;
  readonly privileged: boolean;
  readonly account: Account;
  /** Where relative paths start. */
  readonly implicitPath: string;
  readonly output = new OutputQueue();
  readonly watches = new Set<Watch>();
  readonly transactions = new Map<number, Transaction>();
  target: number | undefined = undefined;
  /** A request waits for the outside world (INTRODUCE): the transport holds later ones back until it is answered. */
  busy = false;
  nextTransactionId = 1;
  /** Set by the transport: there is output, or `busy` has ended. Called often, must be cheap and must not call back in. */
  wake: () => void = () => undefined;

  constructor(domid: number, account: Account) {
    this.domid = domid;
    this.privileged = domid === 0;
    this.account = account;
    this.implicitPath = `/local/domain/${domid}`;
  }
}
