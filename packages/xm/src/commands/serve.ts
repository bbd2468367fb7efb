/** xm serve: standard input and output to xend's Unix socket, for an xm on another machine that comes by ssh. */
import { connect } from 'node:net';
import { hostPaths } from '@xenhost/daemon-kit';
import { ConnectionError } from '../errors.ts';
import { print } from '../world.ts';
import type { Run } from './command.ts';

export const serve: Run = async ({ world, api }) => {
  if (api) {
    print(world, 'Not supported with XenAPI');
    return 255;
  }
  const socket = connect(hostPaths(world.env).xendXmlrpc);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (error: NodeJS.ErrnoException) => {
      reject(new ConnectionError(error.code ?? error.message, { cause: error }));
    });
  });
  const stop = (): void => {
    socket.destroy();
  };
  world.signal.addEventListener('abort', stop);
  // Either side's end is the end: who closed standard input waits for no further answer.
  world.stdin.pipe(socket);
  world.stdin.once('end', stop);
  socket.on('error', stop);
  try {
    for await (const chunk of socket) await world.write(chunk as Buffer);
  } catch (error) {
    if (!socket.destroyed) throw error;
  } finally {
    world.signal.removeEventListener('abort', stop);
    world.stdin.unpipe(socket);
    world.stdin.pause();
    socket.destroy();
  }
  return undefined;
};
