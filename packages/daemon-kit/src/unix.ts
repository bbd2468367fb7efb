/** Unix socket listeners of the daemons. */
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import type { Server, Socket } from 'node:net';
import { dirname } from 'node:path';

/** Bytes of `sun_path` without its NUL (unix(7)); a longer path would be cut silently by the kernel. */
export const UNIX_PATH_MAX = 107;

export interface UnixListener {
  readonly path: string;
  readonly server: Server;
  /** Open connections. */
  readonly connections: ReadonlySet<Socket>;
  /** Stops listening, removes the socket file and destroys open connections. */
  close(): Promise<void>;
}

export interface ListenUnixOptions {
  /** Permission bits of the socket file, default 0600. */
  readonly mode?: number;
  readonly backlog?: number;
  /** Passed to net.createServer: true keeps the writing side open after the peer's end. Default false. */
  readonly allowHalfOpen?: boolean;
  /** Passed to net.createServer: true leaves it to `onConnection` when reading begins (resume()). Default false. */
  readonly pauseOnConnect?: boolean;
}

/**
 * Listens on a Unix socket. Makes the folder; removes the socket file of a daemon that died. Rejects with code
 * EADDRINUSE when someone answers there, ENAMETOOLONG when the path does not fit, EEXIST when a file that is no socket is in the way.
 */
export async function listenUnix(
  path: string,
  onConnection: (socket: Socket) => void,
  options: ListenUnixOptions = {},
): Promise<UnixListener> {
  await claimUnixPath(path);
  const connections = new Set<Socket>();
  const { allowHalfOpen = false, pauseOnConnect = false } = options;
  const server = createServer({ allowHalfOpen, pauseOnConnect }, (socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    onConnection(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, backlog: options.backlog ?? 511 }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  await chmod(path, options.mode ?? 0o600);
  return {
    path,
    server,
    connections,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
        for (const socket of connections) socket.destroy();
      }),
  };
}

/**
 * Readies a path for a listener: makes the folder with `folderMode` (default: by the umask) and removes the socket file of
 * a daemon that died. Rejects as `listenUnix` does.
 */
export async function claimUnixPath(path: string, folderMode?: number): Promise<void> {
  if (Buffer.byteLength(path) > UNIX_PATH_MAX) {
    throw withCode(
      'ENAMETOOLONG',
      `socket path is longer than ${UNIX_PATH_MAX} bytes, choose a shorter run directory: ${path}`,
    );
  }
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, ...(folderMode !== undefined && { mode: folderMode }) });
  if (folderMode !== undefined) await chmod(folder, folderMode);
  const found = await lstat(path).catch(() => undefined);
  if (!found) return;
  if (!found.isSocket()) throw withCode('EEXIST', `cannot listen on ${path}: it exists and is not a socket`);
  if (await answers(path)) throw withCode('EADDRINUSE', `cannot listen on ${path}: another process answers there`);
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => {
      resolve(false);
    });
  });
}

function withCode(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
