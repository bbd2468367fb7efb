/** Operations on the session: watches and transactions. */
import { splitStrings } from '@xenhost/xs-wire';
import { fail, isFailure } from './failure.ts';
import { ACK, WithAfter, canonicalPath, oneString } from './request.ts';
import type { Handler } from './request.ts';
import { Transaction } from './transaction.ts';
import { notifyWatch } from './watches.ts';

export const watch: Handler = (request) => {
  const { connection, core, packet } = request;
  const [given, token] = splitStrings(packet.payload).strings;
  if (given === undefined || token === undefined) return fail('EINVAL');
  const path = canonicalPath(request, given, true);
  if (isFailure(path)) return path;
  for (const each of connection.watches) {
    if (each.path === path && each.token === token) return fail('EEXIST');
  }
  if (!connection.privileged && connection.account.watches > core.quotas.watches) return fail('E2BIG');
  const bytes = path.length + token.length;
  if (!connection.privileged && connection.account.memory + bytes >= core.quotas.memory) return fail('ENOMEM');
  const relative = !given.startsWith('/') && !given.startsWith('@');
  const added = core.addWatch(connection, path, token, relative ? connection.implicitPath.length + 1 : 0);
  // One event at once: simplifies clients. It stands for the watched path itself, whether it exists or not.
  return new WithAfter(ACK, () => {
    notifyWatch(added, path);
  });
};

export const unwatch: Handler = (request) => {
  const { connection, core, packet } = request;
  const [given, token] = splitStrings(packet.payload).strings;
  if (given === undefined || token === undefined) return fail('EINVAL');
  const path = canonicalPath(request, given, true);
  if (isFailure(path)) return path;
  for (const each of connection.watches) {
    if (each.path === path && each.token === token) {
      core.removeWatch(each);
      return ACK;
    }
  }
  return fail('ENOENT');
};

export const resetWatches: Handler = ({ connection, core }) => {
  core.resetConnection(connection);
  return ACK;
};

const LAST_TRANSACTION_ID = 0xffffffff;

export const transactionStart: Handler = ({ connection, core, transaction }) => {
  if (transaction) return fail('EBUSY');
  if (!connection.privileged && connection.transactions.size > core.quotas.transactions) return fail('ENOSPC');
  let id = connection.nextTransactionId;
  while (connection.transactions.has(id)) id = id === LAST_TRANSACTION_ID ? 1 : id + 1;
  connection.nextTransactionId = id === LAST_TRANSACTION_ID ? 1 : id + 1;
  connection.transactions.set(id, new Transaction(id, core.tree, connection.account));
  connection.account.transactions++;
  return `${id}\0`;
};

export const transactionEnd: Handler = ({ connection, core, packet, transaction }) => {
  const answer = oneString(packet.payload);
  if (answer !== 'T' && answer !== 'F') return fail('EINVAL');
  if (!transaction) return fail('ENOENT');
  core.endTransaction(connection, transaction);
  try {
    if (answer === 'F') return ACK;
    if (transaction.failed) return fail('ENOMEM');
    const added = transaction.nodesAddedFor(connection.domid);
    const overQuota = transaction.nodesOwnedBy(connection.domid) > core.quotas.nodes;
    if (!connection.privileged && added > 0 && overQuota) return fail('ENOSPC');
    if (transaction.conflicts()) return fail('EAGAIN');
    for (const change of transaction.commit()) core.fire(change.path, change.exact, change.oldPerms);
    return ACK;
  } finally {
    transaction.dispose();
  }
};
