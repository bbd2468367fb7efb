/** HTTP through `ssh USER@HOST xm serve`: one ssh for all calls of a command (Xen 4.4 `SSHTransport.py`). */
import type { Duplex } from 'node:stream';
import type { World } from '../world.ts';
import type { ServerAddress } from './address.ts';

const { Agent } = process.getBuiltinModule('node:http');

type SshAddress = Extract<ServerAddress, { kind: 'ssh' }>;

export class SshAgent extends Agent {
  readonly #address: SshAddress;
  readonly #world: World;

  constructor(address: SshAddress, world: World) {
    super({ keepAlive: true, maxSockets: 1 });
    this.#address = address;
    this.#world = world;
  }

  override createConnection(): Duplex {
    const { user, host } = this.#address;
    // No shell on this side; the far side's shell gets one fixed command.
    return asSocket(this.#world.connect('ssh', [`${user}@${host}`, 'xm serve']));
  }
}

/** What Node's HTTP asks of a socket beside being a stream. */
function asSocket(stream: Duplex): Duplex {
  const nothing = (): Duplex => stream;
  return Object.assign(stream, {
    setKeepAlive: nothing,
    setNoDelay: nothing,
    setTimeout: nothing,
    ref: nothing,
    unref: nothing,
  });
}
