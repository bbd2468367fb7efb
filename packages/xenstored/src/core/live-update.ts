/**
 * CONTROL live-update: `-f FILE`, perhaps `-c COMMAND-LINE`, then `-s [-F] [-t SECONDS]`; `-a` gives up. Any answer but OK is the reason why it
 * could not be done. The update itself is the daemon's (ControlPort.liveUpdate).
 */
import type { StoreConnection } from './connection.ts';
import { fail } from './failure.ts';
import { ACK, Later, leadingInt } from './request.ts';
import type { Outcome, Request } from './request.ts';

interface Session {
  readonly connection: StoreConnection;
  readonly file: string;
  commandLine: string | undefined;
  cancelled: boolean;
  started: boolean;
}

/** The session of each core: at most one. */
const sessions = new WeakMap<object, Session>();

export function liveUpdate(request: Request, words: readonly string[]): Outcome {
  const [option, value] = words;
  switch (option) {
    case '-a':
      return words.length === 1 ? abort(request) : fail('EINVAL');
    case '-c':
      return words.length === 2 && value !== undefined ? setCommandLine(request, value) : fail('EINVAL');
    case '-s':
      return start(request, words.slice(1));
    case '-f':
      return words.length === 2 && value !== undefined ? begin(request, value) : fail('EINVAL');
    default:
      return fail('EINVAL');
  }
}

function begin({ core, connection }: Request, file: string): string {
  if (!core.control.liveUpdate) return 'Live update is not possible.\0';
  const refusal = core.control.checkProgram?.(file);
  if (refusal !== undefined) return `${refusal}\0`;
  const active = sessions.get(core);
  if (active && !active.connection.closed) return 'live-update session already active.\0';
  sessions.set(core, { connection, file, commandLine: undefined, cancelled: false, started: false });
  return ACK;
}

function setCommandLine({ core, connection }: Request, commandLine: string): string {
  const session = sessions.get(core);
  if (session?.connection !== connection) return 'Not in live-update session.\0';
  session.commandLine = commandLine;
  return ACK;
}

function abort({ core }: Request): string {
  const session = sessions.get(core);
  if (!session) return 'No live-update session active.\0';
  session.cancelled = true;
  sessions.delete(core);
  return ACK;
}

function start(request: Request, words: readonly string[]): Outcome {
  const { core, connection, packet } = request;
  let force = false;
  let timeoutSec = 0;
  for (let i = 0; i < words.length; i++) {
    if (words[i] === '-F') force = true;
    else if (words[i] === '-t' && i + 1 < words.length) timeoutSec = leadingInt(words[++i] ?? '');
    else return fail('EINVAL');
  }
  const session = sessions.get(core);
  if (session?.connection !== connection || session.started) return 'Not in live-update session.\0';
  session.started = true;
  core.updating = connection;
  const { file, commandLine } = session;
  let accepted = false;
  const accept = (): void => {
    if (accepted) return;
    accepted = true;
    core.answer(connection, packet, ACK);
  };
  const cancelled = (): boolean => session.cancelled || connection.closed;
  const update = core.control.liveUpdate?.({ file, commandLine, timeoutSec, force, cancelled, accept });
  const outcome = (update ?? Promise.resolve('Live update is not possible.')).then(
    (reason) => reason,
    (error: unknown) => {
      core.log('live update failed', { file, err: error });
      return 'Live update failed.';
    },
  );
  return new Later(
    outcome.then((reason) => {
      if (sessions.get(core) === session) sessions.delete(core);
      core.updating = undefined;
      return accepted ? undefined : `${session.cancelled ? 'Cancellation was requested' : reason}\0`;
    }),
  );
}
