/** How packets of a link travel: UDP datagrams, or TCP with each packet behind its length. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, isIPv6, type Server, type Socket } from 'node:net';
import type { Logger } from '@xenhost/daemon-kit';
import { FrameStream } from '../uplink/frame-stream.ts';
import type { HostPort, LinkConfig } from '../switch/config.ts';
import { MAX_FRAME_BYTES } from '../switch/limits.ts';
import { PART_HEADER_BYTES } from './fragments.ts';
import { MAX_DATAGRAM_QUEUE_BYTES, MAX_STRANGERS, RECONNECT_MS, STRANGER_MS } from './limits.ts';
import { SEAL_BYTES } from './session.ts';

/** One way to the other end. */
export interface Channel {
  send(packet: Uint8Array): void;
  /** The other end has shown that it knows the secret. */
  trusted(): void;
  close(): void;
}

export interface TransportEnds {
  /** A way has opened; `packet` of the result is called with what comes over it, `closed` when it is gone. */
  readonly opened: (channel: Channel) => { packet(bytes: Uint8Array): void; closed(): void };
  readonly log: Logger;
}

export interface Transport {
  /** Where it listens; undefined when it does not. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

const MAX_PACKET_BYTES = MAX_FRAME_BYTES + PART_HEADER_BYTES + SEAL_BYTES;

export const openTransport = (config: LinkConfig, ends: TransportEnds): Promise<Transport> =>
  config.protocol === 'udp' ? openUdp(config, ends) : openTcp(config, ends);

async function openUdp({ name, listen, peer }: LinkConfig, { opened, log }: TransportEnds): Promise<Transport> {
  if (!listen || !peer) throw new Error('a UDP link wants listen and peer');
  const socket: UdpSocket = createSocket(isIPv6(listen.host) ? 'udp6' : 'udp4');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(listen.port, listen.host, () => {
      socket.off('error', reject);
      resolve();
    });
  });
  socket.on('error', (error) => {
    log.debug({ err: error, link: name }, 'a datagram failed');
  });
  const receive = opened({
    send: (packet) => {
      if (socket.getSendQueueSize() > MAX_DATAGRAM_QUEUE_BYTES) return;
      socket.send(packet, peer.port, peer.host, () => undefined);
    },
    trusted: () => undefined,
    close: () => undefined,
  });
  socket.on('message', (packet) => {
    receive.packet(packet);
  });
  return {
    port: socket.address().port,
    close: () =>
      new Promise((resolve) => {
        receive.closed();
        socket.close(() => {
          resolve();
        });
      }),
  };
}

async function openTcp({ name, listen, peer }: LinkConfig, ends: TransportEnds): Promise<Transport> {
  const sockets = new Set<Socket>();
  const strangers = new Set<Socket>();
  const carry = (socket: Socket): void => {
    sockets.add(socket);
    strangers.add(socket);
    socket.setNoDelay(true);
    const late = setTimeout(() => socket.destroy(), STRANGER_MS);
    const stream = new FrameStream(socket, MAX_PACKET_BYTES, {
      frame: (bytes) => {
        receive.packet(bytes);
      },
      closed: () => {
        clearTimeout(late);
        sockets.delete(socket);
        strangers.delete(socket);
        receive.closed();
      },
    });
    const receive = ends.opened({
      send: (packet) => {
        stream.send(packet);
      },
      trusted: () => {
        clearTimeout(late);
        strangers.delete(socket);
      },
      close: () => {
        stream.close();
      },
    });
  };
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  if (listen) return listenTcp(listen, strangers, carry, close);
  if (!peer) throw new Error('a TCP link wants listen or peer');
  return connectTcp(name, peer, ends.log, carry, close);
}

async function listenTcp(
  { host, port }: HostPort,
  strangers: ReadonlySet<Socket>,
  carry: (socket: Socket) => void,
  close: () => void,
): Promise<Transport> {
  const server: Server = createServer((socket) => {
    if (strangers.size >= MAX_STRANGERS) socket.destroy();
    else carry(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address();
  return {
    port: typeof address === 'object' ? address?.port : undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        close();
      }),
  };
}

function connectTcp(
  name: string,
  { host, port }: HostPort,
  log: Logger,
  carry: (socket: Socket) => void,
  close: () => void,
): Transport {
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let trying: Socket | undefined;
  const attempt = (): void => {
    const socket = connect({ host, port });
    trying = socket;
    let open = false;
    socket.once('connect', () => {
      open = true;
      carry(socket);
    });
    socket.on('error', (error) => {
      if (!open) log.debug({ err: error, link: name }, 'the other end does not answer');
    });
    socket.once('close', () => {
      if (!closed) timer = setTimeout(attempt, RECONNECT_MS);
    });
  };
  attempt();
  return {
    port: undefined,
    close: () => {
      closed = true;
      clearTimeout(timer);
      trying?.destroy();
      close();
      return Promise.resolve();
    },
  };
}
