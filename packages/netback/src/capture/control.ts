/**
 * netback's control socket, HTTP for domain-0's tools: `GET /networks` tells bridges, ports and addresses as JSON;
 * `GET /capture?of=NAME` sends frames of a bridge or a port as pcap until COUNT have come or the reader leaves. What a slow reader
 * missed stands in the trailer `x-missed`.
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type Clock, systemClock } from '@xenhost/base';
import { listenUnix, type UnixListener } from '@xenhost/daemon-kit';
import type { Bridge } from '../switch/bridge.ts';
import {
  DEFAULT_SNAP_LENGTH,
  MAX_CAPTURE_BYTES,
  MAX_CAPTURE_COUNT,
  MAX_CONTROL_CONNECTIONS,
  MAX_SNAP_LENGTH,
} from './limits.ts';
import { pcapHeader, pcapRecord } from './pcap.ts';

export interface ControlModules {
  readonly networks: { readonly bridges: readonly Bridge[] };
  readonly clock?: Clock;
}

export async function serveControl(
  path: string,
  { networks, clock = systemClock }: ControlModules,
): Promise<UnixListener> {
  const server: Server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://netback');
    if (request.method !== 'GET') refuse(response, 405, 'GET only');
    else if (url.pathname === '/networks') tell(response, networks.bridges);
    else if (url.pathname === '/capture') capture(response, url.searchParams, networks.bridges, clock);
    else refuse(response, 404, 'here are /networks and /capture');
  });
  const listener = await listenUnix(path, (socket) => {
    if (listener.connections.size > MAX_CONTROL_CONNECTIONS) socket.destroy();
    else server.emit('connection', socket);
  });
  return listener;
}

function refuse(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(`${message}\n`);
}

function tell(response: ServerResponse, bridges: readonly Bridge[]): void {
  const body = bridges.map((bridge) => ({ name: bridge.name, ports: bridge.ports(), macs: bridge.macs() }));
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ bridges: body }));
}

function capture(response: ServerResponse, query: URLSearchParams, bridges: readonly Bridge[], clock: Clock): void {
  const of = query.get('of') ?? '';
  const count = wholeNumber(query.get('count'), Infinity, MAX_CAPTURE_COUNT);
  const snapLength = wholeNumber(query.get('snaplen'), DEFAULT_SNAP_LENGTH, MAX_SNAP_LENGTH);
  if (count === undefined || snapLength === undefined) {
    refuse(response, 400, 'count and snaplen are numbers above 0');
    return;
  }
  let seen = 0;
  let missed = 0;
  const observer = (frame: Uint8Array): void => {
    if (response.writableLength > MAX_CAPTURE_BYTES) {
      missed += 1;
      return;
    }
    response.write(pcapRecord(clock.wallNs(), frame, snapLength));
    seen += 1;
    if (seen < count) return;
    stop?.();
    response.addTrailers({ 'x-missed': String(missed) });
    response.end();
  };
  const stop = observe(bridges, of, observer);
  if (!stop) {
    const names = bridges.flatMap((bridge) => [bridge.name, ...bridge.ports().map((port) => port.name)]);
    refuse(response, 404, `no bridge or port ${of}; there are: ${names.join(', ') || 'none'}`);
    return;
  }
  response.on('close', stop);
  response.writeHead(200, { 'content-type': 'application/vnd.tcpdump.pcap', trailer: 'x-missed' });
  response.write(pcapHeader(snapLength));
}

/** A bridge's name goes before a port's. */
function observe(
  bridges: readonly Bridge[],
  of: string,
  observer: (frame: Uint8Array) => void,
): (() => void) | undefined {
  const bridge = bridges.find(({ name }) => name === of);
  if (bridge) return bridge.observe(observer);
  for (const candidate of bridges) {
    const stop = candidate.observe(observer, of);
    if (stop) return stop;
  }
  return undefined;
}

function wholeNumber(text: string | null, fallback: number, max: number): number | undefined {
  if (text === null) return fallback;
  const value = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  return value >= 1 && value <= max ? value : undefined;
}
