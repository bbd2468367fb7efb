/** One attached terminal or pipe: bytes between a console's socket and this process's stdin and stdout. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** Ctrl-]: leaves the console. */
export const ESCAPE_BYTE = 0x1d;

/** What a session reads from: a terminal has a raw mode. */
export interface SessionInput extends NodeJS.ReadableStream {
  readonly isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
}

export interface SessionStreams {
  readonly input: SessionInput;
  readonly output: NodeJS.WritableStream;
}

export type SessionEnd = 'escape' | 'domain-ended' | 'output-closed' | 'interrupted';

/**
 * Runs a session until the escape byte, the end of the console, the end of the output, or the signal. The end of the input
 * does not end it: what the guest still prints is shown. Rejects with the connection's error. The terminal is always restored.
 */
export async function runSession(path: string, streams: SessionStreams, signal?: AbortSignal): Promise<SessionEnd> {
  const socket = await open(path);
  const { input, output } = streams;
  const raw = input.isTTY === true && input.setRawMode !== undefined;
  if (raw) input.setRawMode?.(true);
  const done = Promise.withResolvers<SessionEnd>();
  const finish = (why: SessionEnd) => (): void => {
    done.resolve(why);
  };

  const onInput = (chunk: Buffer | string): void => {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, 'utf8') : chunk;
    const escape = bytes.indexOf(ESCAPE_BYTE);
    const room = socket.write(escape < 0 ? bytes : bytes.subarray(0, escape));
    if (escape >= 0) done.resolve('escape');
    else if (!room) input.pause();
  };
  const onInputEnd = (): void => undefined;
  const onDrain = (): void => {
    input.resume();
  };
  // Node's raw mode still turns each LF into CR LF: a guest's own CR would be one too many.
  const plain = raw && (output as { readonly isTTY?: boolean }).isTTY === true;
  const onOutput = (bytes: Buffer): void => {
    if (output.write(plain ? withoutCrBeforeLf(bytes) : bytes)) return;
    socket.pause();
    output.once('drain', () => {
      socket.resume();
    });
  };
  const onOutputError = finish('output-closed');
  const onAbort = finish('interrupted');

  socket.on('data', onOutput);
  socket.on('drain', onDrain);
  socket.on('end', finish('domain-ended'));
  socket.on('error', finish('domain-ended'));
  output.on('error', onOutputError);
  input.on('data', onInput);
  input.on('end', onInputEnd);
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted) onAbort();
  try {
    return await done.promise;
  } finally {
    signal?.removeEventListener('abort', onAbort);
    input.off('data', onInput);
    input.off('end', onInputEnd);
    input.pause();
    if (raw) input.setRawMode?.(false);
    socket.end();
    socket.destroySoon();
  }
}

const CR = 0x0d;
const LF = 0x0a;

/** Drops each CR that an LF follows in the same chunk. */
function withoutCrBeforeLf(bytes: Buffer): Buffer {
  return bytes.includes('\r\n') ? (bytes.filter((byte, i) => byte !== CR || bytes[i + 1] !== LF) as Buffer) : bytes;
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
