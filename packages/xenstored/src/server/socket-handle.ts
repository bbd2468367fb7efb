/**
 * What node:net does not offer of a socket's handle, in one place: to stop reading at once (pause() lets one more chunk come), how
 * much of a write the kernel has not taken, to write without the machinery of a stream, and to read into a buffer of ours, which
 * net.connect's `onread` does but a server's sockets cannot be asked for. All have been members of the handle since Node 0.x; without a
 * handle they are no-ops.
 */
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';

interface StreamHandle {
  reading?: boolean;
  readStop(): number;
  readonly writeQueueSize: number;
  /** The descriptor, of sockets of Unix; negative when there is none. */
  readonly fd?: number;
}

const handleOf = (socket: Socket): StreamHandle | null | undefined =>
  (socket as unknown as { readonly _handle?: StreamHandle | null })._handle;

/** Nothing is read from now on. What had been read already, and not been given out, is returned; `readingInto` takes such a socket. */
export function stopReading(socket: Socket): Buffer[] {
  socket.pause();
  const read: Buffer[] = [];
  for (let chunk = socket.read() as Buffer | null; chunk; chunk = socket.read() as Buffer | null) read.push(chunk);
  const handle = handleOf(socket);
  if (handle) {
    handle.readStop();
    handle.reading = false;
  }
  return read;
}

/** Bytes at the end of what was written last that the kernel has not taken. */
export const unsentBytes = (socket: Socket): number => handleOf(socket)?.writeQueueSize ?? 0;

/**
 * Gives the kernel what it takes at once; nothing else may be on its way. Returns how many bytes that were, 0 for any trouble: the
 * stream's own write meets it again.
 */
export function writeNow(socket: Socket, bytes: Buffer): number {
  const fd = handleOf(socket)?.fd;
  if (fd === undefined || fd < 0) return 0;
  try {
    return writeSync(fd, bytes);
  } catch {
    return 0;
  }
}

/**
 * A socket over the handle of `socket`, which is given up: what comes is read into `buffer`, which many may share, and told at once by
 * its length. Saves an allocation of 64 KiB a chunk. Reads after `resume()`. Without a handle `socket` itself, which is closed then.
 */
export function readingInto(socket: Socket, buffer: Uint8Array, onBytes: (length: number) => void): Socket {
  const handle = handleOf(socket);
  if (!handle) return socket;
  const onread = {
    buffer,
    callback: (length: number) => {
      onBytes(length);
      return true;
    },
  };
  // `handle` and `manualStart` are what node:net gives its own sockets.
  const options = { handle, onread, readable: true, writable: true, manualStart: true };
  handle.readStop();
  handle.reading = false;
  const own = new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
  (socket as unknown as { _handle: StreamHandle | null })._handle = null;
  socket.destroy();
  return own;
}
