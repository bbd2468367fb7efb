/** The table of operations: one row a message type. What has no row answers ENOSYS. */
import { XsOp } from '@xenhost/xs-wire';
import { control } from './ops-control.ts';
import * as domains from './ops-domains.ts';
import * as nodes from './ops-nodes.ts';
import * as session from './ops-session.ts';
import type { Handler } from './request.ts';

export interface Operation {
  readonly handler: Handler;
  /** Only for Domain-0's tools: EACCES for guests. */
  readonly privileged?: true;
  /** The transaction id of the request means nothing. */
  readonly ignoresTransaction?: true;
}

const ROWS: readonly (readonly [op: number, operation: Operation])[] = [
  [XsOp.CONTROL, { handler: control, privileged: true }],
  [XsOp.DIRECTORY, { handler: nodes.directory }],
  [XsOp.READ, { handler: nodes.read }],
  [XsOp.GET_PERMS, { handler: nodes.getPerms }],
  [XsOp.WATCH, { handler: session.watch, ignoresTransaction: true }],
  [XsOp.UNWATCH, { handler: session.unwatch, ignoresTransaction: true }],
  [XsOp.TRANSACTION_START, { handler: session.transactionStart }],
  [XsOp.TRANSACTION_END, { handler: session.transactionEnd }],
  [XsOp.INTRODUCE, { handler: domains.introduce, privileged: true }],
  [XsOp.RELEASE, { handler: domains.release, privileged: true }],
  [XsOp.GET_DOMAIN_PATH, { handler: domains.getDomainPath }],
  [XsOp.WRITE, { handler: nodes.write }],
  [XsOp.MKDIR, { handler: nodes.mkdir }],
  [XsOp.RM, { handler: nodes.rm }],
  [XsOp.SET_PERMS, { handler: nodes.setPerms }],
  [XsOp.IS_DOMAIN_INTRODUCED, { handler: domains.isDomainIntroduced, privileged: true }],
  [XsOp.RESUME, { handler: domains.resume, privileged: true }],
  [XsOp.SET_TARGET, { handler: domains.setTarget, privileged: true }],
  [XsOp.RESET_WATCHES, { handler: session.resetWatches }],
  [XsOp.DIRECTORY_PART, { handler: nodes.directoryPart }],
];

const byOp: (Operation | undefined)[] = [];
for (const [op, operation] of ROWS) byOp[op] = operation;

export const operationOf = (op: number): Operation | undefined => (op < byOp.length ? byOp[op] : undefined);
