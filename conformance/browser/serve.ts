/** The page's server, on loopback: scripts with the headers that shared memory asks for, and what the page tells. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { PageOptions } from './page/page.ts';
import type { Row } from './page/scope.ts';

const ISOLATION = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
} as const;
const INDEX = '<!doctype html><title>xenhost</title><script type="module" src="/page.js"></script>';

export interface PageContent {
  /** By path: scripts, and what cases fetch. */
  readonly files: ReadonlyMap<string, { readonly type: string; readonly body: string | Uint8Array }>;
  readonly options: PageOptions;
}

export interface PageServer {
  readonly url: string;
  close(): void;
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString()) as unknown;
}

export async function servePage(
  content: PageContent,
  events: { row(row: Row): void; done(): void },
): Promise<PageServer> {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url ?? '/';
    const send = (status: number, type: string, body: string | Uint8Array): void => {
      response.writeHead(status, { 'content-type': type, ...ISOLATION }).end(body);
    };
    const file = content.files.get(path);
    if (request.method === 'POST' && (path === '/row' || path === '/done')) {
      const body = await bodyOf(request);
      send(204, 'text/plain', '');
      if (path === '/done') events.done();
      else events.row(body as Row);
    } else if (path === '/') send(200, 'text/html', INDEX);
    else if (path === '/options') send(200, 'application/json', JSON.stringify(content.options));
    else if (file) send(200, file.type, file.body);
    else send(404, 'text/plain', 'not here');
  };
  const server: Server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      response.destroy(error instanceof Error ? error : undefined);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
