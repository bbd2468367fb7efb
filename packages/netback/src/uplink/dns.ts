/**
 * The gateway's name server: hands guests' queries to the resolver of this machine and its answers back, over UDP. passt could do so
 * with the first name server of /etc/resolv.conf only.
 */
import { createSocket, type Socket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { Logger } from '@xenhost/daemon-kit';
import { putU16, u16 } from '../switch/headers.ts';
import { DNS_TIMEOUT_MS, MAX_DNS_QUERIES } from './limits.ts';

const DNS_PORT = 53;
const HEADER_BYTES = 12;
const IDS = 0x10000;

/** The first name server in the text of /etc/resolv.conf. */
export function firstNameServer(text: string = resolvConf()): string | undefined {
  for (const line of text.split('\n')) {
    const server = /^\s*nameserver\s+(\S+)/.exec(line)?.[1];
    if (server !== undefined && isIP(server) !== 0) return server;
  }
  return undefined;
}

function resolvConf(): string {
  try {
    return readFileSync('/etc/resolv.conf', 'latin1');
  } catch {
    return '';
  }
}

interface Query {
  readonly id: number;
  readonly answer: (bytes: Uint8Array) => void;
  readonly timer: NodeJS.Timeout;
}

export interface DnsOptions {
  readonly resolver: string;
  /** For tests; 53 otherwise. */
  readonly port?: number;
}

export class DnsForwarder {
  readonly #socket: Socket;
  readonly #queries = new Map<number, Query>();
  #ready = false;
  #closed = false;

  constructor({ resolver, port = DNS_PORT }: DnsOptions, { log }: { readonly log: Logger }) {
    this.#socket = createSocket(isIP(resolver) === 6 ? 'udp6' : 'udp4');
    this.#socket.on('error', (error) => {
      // Refused, unreachable: the guest asks again.
      log.debug({ err: error, resolver }, 'resolver does not answer');
    });
    this.#socket.on('message', (bytes) => {
      this.#answered(bytes);
    });
    // A connected socket hears this resolver only.
    this.#socket.connect(port, resolver, () => {
      this.#ready = true;
      if (this.#closed) this.#socket.close();
    });
    this.#socket.unref();
  }

  /** Sends a query; `answer` is called with the resolver's bytes, or never. */
  ask(query: Uint8Array, answer: (bytes: Uint8Array) => void): void {
    if (this.#closed || query.length < HEADER_BYTES || this.#queries.size >= MAX_DNS_QUERIES) return;
    let outer = Math.floor(Math.random() * IDS);
    while (this.#queries.has(outer)) outer = (outer + 1) % IDS;
    const timer = setTimeout(() => this.#queries.delete(outer), DNS_TIMEOUT_MS).unref();
    this.#queries.set(outer, { id: u16(query, 0), answer, timer });
    const bytes = new Uint8Array(query);
    putU16(bytes, 0, outer);
    if (this.#ready) this.#socket.send(bytes);
    else this.#socket.once('connect', () => this.#socket.send(bytes));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { timer } of this.#queries.values()) clearTimeout(timer);
    this.#queries.clear();
    if (this.#ready) this.#socket.close();
  }

  #answered(bytes: Uint8Array): void {
    if (bytes.length < HEADER_BYTES) return;
    const outer = u16(bytes, 0);
    const query = this.#queries.get(outer);
    if (!query) return;
    this.#queries.delete(outer);
    clearTimeout(query.timer);
    const answer = new Uint8Array(bytes);
    putU16(answer, 0, query.id);
    query.answer(answer);
  }
}
