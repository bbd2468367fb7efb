/** Operations on the session: watches and transactions. */
import { fail } from './failure.ts';
import { SPECIAL_NAME_MAX } from './limits.ts';
import { canonicalize, isSpecial, isValidPath } from './paths.ts';
import { ACK, WithAfter, oneString, strings } from './request.ts';
import type { Handler } from './request.ts';

export const watch: Handler = ({ connection, core, packet }) => {
  const [given, token, more] = strings(packet.payload);
  if (given === undefined || token === undefined || more !== undefined) return fail('EINVAL');
  const path = canonicalize(given, connection.implicitPath);
  // Any special name will do: one that never fires is no error.
  const valid = isSpecial(given) ? given.length <= SPECIAL_NAME_MAX : isValidPath(path, core.quotas.pathMax);
  if (!valid) return fail('EINVAL');
  if (core.events.index.find(connection, path, token)) return fail('EEXIST');
  if (!connection.privileged && connection.account.watches > core.quotas.watches) return fail('E2BIG');
  if (core.refusesMemory(connection.account, path.length + token.length)) return fail('ENOMEM');
  const added = core.addWatch(connection, path, token, path !== given);
  // One event at once: simplifies clients.
  return new WithAfter(ACK, () => {
    core.events.first(added);
  });
};

export const unwatch: Handler = ({ connection, core, packet }) => {
  const [given, token, more] = strings(packet.payload);
  if (given === undefined || token === undefined || more !== undefined) return fail('EINVAL');
  const path = canonicalize(given, connection.implicitPath);
  const found = core.events.index.find(connection, path, token);
  if (!found) return fail('ENOENT');
  core.removeWatch(found);
  return ACK;
};

export const resetWatches: Handler = ({ connection, core }) => {
  core.resetConnection(connection);
  return ACK;
};

const LAST_TRANSACTION_ID = 0xffffffff;

export const transactionStart: Handler = ({ connection, core, transaction }) => {
  if (transaction) return fail('EBUSY');
  if (!connection.privileged && connection.transactions.size > core.quotas.transactions) return fail('ENOSPC');
  const after = (id: number): number => (id === LAST_TRANSACTION_ID ? 1 : id + 1);
  let id = connection.nextTransactionId;
  while (connection.transactions.has(id)) id = after(id);
  connection.nextTransactionId = after(id);
  core.transactions.add(connection, core.transactions.make(connection, id));
  return `${id}\0`;
};

export const transactionEnd: Handler = ({ connection, core, packet, transaction }) => {
  const answer = oneString(packet.payload);
  if (answer !== 'T' && answer !== 'F') return fail('EINVAL');
  if (!transaction) return fail('ENOENT');
  try {
    return answer === 'F' ? ACK : core.transactions.commit(connection, transaction);
  } finally {
    core.transactions.end(connection, transaction);
  }
};
