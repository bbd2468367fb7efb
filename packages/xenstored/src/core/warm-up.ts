/**
 * Runs the usual requests on a core of its own before the first client comes, so that V8 has compiled what they run through: else the
 * first removal of a large tree takes several times as long as later ones.
 */
import { XsOp } from '@xenhost/xs-wire';
import type { StoreConnection } from './connection.ts';
import { XenstoreCore } from './core.ts';

/** Enough for V8's optimising compiler, which goes by calls more than by loops; about 60 ms together. */
const ROUNDS = 8;
const NODES = 250;

const scratchCore = (): XenstoreCore =>
  new XenstoreCore(
    {},
    { gate: { introduce: () => Promise.resolve(), release: () => undefined }, log: () => undefined },
  );

export function warmUp(core = scratchCore()): void {
  const tool = core.connect();
  const guest = core.connect(1);
  const ask = (connection: StoreConnection, op: number, payload: string, txId = 0): void => {
    core.handle(connection, { op, reqId: 1, txId, payload: Buffer.from(payload, 'latin1') });
    connection.output.take();
  };
  ask(tool, XsOp.WRITE, '/local/domain/1/data\0');
  ask(tool, XsOp.SET_PERMS, '/local/domain/1/data\0n1\0');
  ask(guest, XsOp.WATCH, 'data\0token\0');
  for (let round = 1; round <= ROUNDS; round++) {
    for (let i = 0; i < NODES; i++) {
      const path = `/warm/up/dir-${i % 7}/node-${i}`;
      ask(tool, XsOp.WRITE, `${path}\0value`);
      ask(tool, XsOp.READ, `${path}\0`);
      if (i % 8 !== 0) continue;
      ask(tool, XsOp.DIRECTORY, '/warm/up\0');
      ask(guest, XsOp.WRITE, `data/${i % 64}\0value`);
      guest.output.take();
    }
    for (let i = 0; i < NODES / 8; i++) {
      ask(tool, XsOp.TRANSACTION_START, '\0');
      const id = tool.transactions.keys().next().value ?? 0;
      ask(tool, XsOp.READ, '/warm/up/dir-1/node-1\0', id);
      ask(tool, XsOp.WRITE, '/warm/up/dir-1/node-1\0value', id);
      ask(tool, XsOp.TRANSACTION_END, 'T\0', id);
    }
    ask(tool, XsOp.RM, '/warm\0');
  }
}
