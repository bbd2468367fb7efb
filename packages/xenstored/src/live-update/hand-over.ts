/**
 * Live update, the side that is taken over from. The new program is started and says that it can; then this daemon stands still, writes
 * its state to a file, and when the new one has made sense of it, gives it the sockets and goes. Until then it can go on as
 * if nothing had been; afterwards a failure is what a kill is: the journal is there.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LiveUpdateRequest } from '../core/ports.ts';
import type { DaemonParts } from '../parts.ts';
import { reconnectRings } from '../parts.ts';
import { HANDOVER_VERSION, ringHandover, ringStateFrom } from './messages.ts';
import type { FromSuccessor, HandoverState } from './messages.ts';
import type { SuccessorPort } from './successor-port.ts';

/** For the new program to load and reach the hypervisor, when the tool asks for less. */
const HELLO_MIN_MS = 30_000;
const RESTORE_MS = 60_000;
const SERVE_MS = 30_000;
const QUIESCE_POLL_MS = 5;
const STATE_FILE = 'state_dump';

/** Why it was not done; this daemon goes on. */
export class UpdateRefused extends Error {
  override readonly name = 'UpdateRefused';
}

/** `directory`: where the state may be written; `onFreeze`: new clients have to wait from now on. Rejects with UpdateRefused, or with what went wrong once there was no way back. */
export async function handOver(
  parts: DaemonParts,
  request: LiveUpdateRequest,
  port: SuccessorPort,
  { directory, onFreeze }: { readonly directory: string; readonly onFreeze: () => void },
): Promise<void> {
  const file = join(directory, STATE_FILE);
  const timeoutMs = request.timeoutSec * 1000;
  let state: HandoverState | undefined;
  try {
    await hear(port, 'hello', Math.max(timeoutMs, HELLO_MIN_MS));
    onFreeze();
    parts.sockets.freeze();
    await quiet(parts, request, timeoutMs);
    await parts.checker?.stop();
    state = capture(parts, request);
    await parts.rings?.closeAll();
    writeFileSync(file, JSON.stringify(state), { mode: 0o600 });
    await port.send({ kind: 'state', file });
    await hear(port, 'restored', RESTORE_MS);
    const open = [...parts.sockets.clients].filter(({ socket }) => !socket.destroyed);
    await Promise.all(open.map(({ connection, socket }) => port.send({ kind: 'socket', id: connection.id }, socket)));
  } catch (error) {
    port.abandon();
    await goOn(parts, state);
    throw new UpdateRefused(error instanceof Error ? error.message : String(error));
  } finally {
    rmSync(file, { force: true });
  }
  const unsent = Array.from(parts.sockets.clients, (client): readonly [number, string] => [
    client.connection.id,
    client.letGo().toString('latin1'),
  ]);
  await parts.metrics.close();
  const journalBytes = parts.journal?.close();
  await parts.hypervisor?.privcmd.close();
  await port.send({ kind: 'go', unsent: unsent.filter(([, bytes]) => bytes !== ''), journalBytes });
  await hear(port, 'serving', SERVE_MS);
}

async function hear(port: SuccessorPort, kind: FromSuccessor['kind'], timeoutMs: number): Promise<void> {
  const message = await port.next(timeoutMs);
  if (message.kind === 'failed') throw new Error(message.reason);
  if (message.kind !== kind) throw new Error(`the new daemon says ${message.kind} where ${kind} was expected`);
  if (message.kind === 'hello' && message.version !== HANDOVER_VERSION) {
    throw new Error(`the new daemon takes version ${message.version} of the state, not ${HANDOVER_VERSION}`);
  }
}

/** Waits until no request waits for the hypervisor, and no batch is on its way. */
async function quiet({ core, rings }: DaemonParts, request: LiveUpdateRequest, timeoutMs: number): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!core.quiescent) {
    if (performance.now() > end) throw new Error('Requests wait for the hypervisor');
    await new Promise((resolve) => setTimeout(resolve, QUIESCE_POLL_MS));
  }
  await rings?.freeze();
  if (request.cancelled()) throw new Error('Cancellation was requested');
}

function capture({ core, sockets, rings, journal }: DaemonParts, request: LiveUpdateRequest): HandoverState {
  journal?.flush();
  // Its answer is sent by the successor, like all else that waits.
  request.accept();
  return {
    version: HANDOVER_VERSION,
    core: core.captureState(),
    sockets: Array.from(sockets.clients, ({ connection, rest }) => [connection.id, rest.toString('latin1')] as const),
    rings: Array.from(rings?.rings() ?? [], ([domid, ring]) => ringHandover(domid, ring.state, ring.toSkip)),
  };
}

/** Nothing has been: rings are connected again, everybody is served. */
async function goOn(parts: DaemonParts, state: HandoverState | undefined): Promise<void> {
  const { core, sockets, rings, checker } = parts;
  if (state) {
    const known = new Map(state.rings.map((ring) => [ring.domid, ring]));
    await reconnectRings(parts, (domid) => {
      const ring = known.get(domid);
      return { states: ring ? [ringStateFrom(ring)] : [], done: ring?.toSkip ?? [] };
    });
    rings?.resume();
  }
  await checker?.start(core);
  checker?.check();
  rings?.thaw();
  sockets.thaw();
}
