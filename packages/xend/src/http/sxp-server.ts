/**
 * The HTTP server of old tools (Xen 4.4 `SrvServer.py`, `xen/web/`): a tree of resources under /xend that are got, and
 * operations that are posted to them as forms. Answers are SXP for who asks for it or says nothing of what it takes, and
 * HTML for browsers. Operations are the legacy XML-RPC methods under other names. It knows no passwords: off by default.
 */
import { isList, printSxp, type Sxp } from '@xenhost/sxp';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { InvalidDomainError, messageOf, XendError } from '../errors.ts';
import type { XendLog } from '../node/log.ts';
import { methods } from '../rpc/dispatch.ts';
import type { MethodContext } from '../rpc/method.ts';
import type { BodyBudget } from './body.ts';
import { formOf, queryOf } from './forms.ts';
import * as html from './html.ts';
import { buildHttpServer, type HttpOptions } from './server.ts';
import { argumentsOf, DOMAIN_OPERATIONS, sxpOf, type Form } from './sxp-operations.ts';

const SXP_TYPE = 'application/sxp';
const HTML_TYPE = 'text/html';
const TEXT_TYPE = 'text/plain';

/** What an operation or a resource answers. */
interface Result {
  readonly status?: number;
  readonly location?: string;
  /** SXP where SXP is wanted; shown in a page else. Undefined: nothing. */
  readonly value?: XmlRpcValue | undefined;
  /** The page for browsers, instead of the value. */
  readonly page?: string;
  /** Text as it is, for both. */
  readonly text?: string;
}

interface Visit {
  /** Behind /xend. */
  readonly path: readonly string[];
  /** Address of the resource, for links. */
  readonly url: string;
  readonly form: Form;
}

class NotFound extends Error {}

/** A server that listens nowhere yet. */
export function buildSxpServer(
  options: HttpOptions,
  modules: { readonly log: XendLog; readonly budget: BodyBudget; readonly context: MethodContext },
): FastifyInstance {
  const { context, log } = modules;
  const server = buildHttpServer(options, modules);
  const tree = new Tree(context);
  const failed = (reply: FastifyReply, error: unknown): FastifyReply => {
    if (error instanceof NotFound || error instanceof InvalidDomainError) {
      const asked = error instanceof InvalidDomainError ? error.asked : error.message;
      return reply.code(404).type(TEXT_TYPE).send(asked);
    }
    if (!(error instanceof XendError)) log.error('SrvBase', `Request failed: ${messageOf(error)}`, error);
    const message = messageOf(error);
    return wantsSxp(reply.request)
      ? reply
          .code(500)
          .header('content-type', SXP_TYPE)
          .send(printSxp(['xend.err', message]))
      : reply
          .code(500)
          .header('content-type', HTML_TYPE)
          .send(html.page([], `<p>${html.escape(message)}</p>`));
  };
  server.addHook('onRequest', async (_request, reply) => {
    reply.headers({ pragma: 'no-cache', 'cache-control': 'no-cache', expires: '-1' });
  });
  server.route({
    method: ['GET', 'HEAD'],
    url: '/',
    handler: async (request, reply) => {
      try {
        return await send(request, reply, await tree.get(visitOf(request, queryOf(request.originalUrl))));
      } catch (error) {
        return failed(reply, error);
      }
    },
  });
  server.post('/', async (request, reply) => {
    try {
      const form = formOf(request.originalUrl, request.headers['content-type'], request.body);
      const operation = form.get('op');
      if (operation === undefined) return await reply.code(406).type(TEXT_TYPE).send('');
      const result = await tree.post(visitOf(request, form), operation, wantsSxp(request));
      if (result === undefined) {
        return await reply.code(501).type(TEXT_TYPE).send(`Operation not implemented: ${operation}`);
      }
      return await send(request, reply, result);
    } catch (error) {
      return failed(reply, error);
    }
  });
  server.setNotFoundHandler(async (request, reply) =>
    reply.code(501).type(TEXT_TYPE).send(`Request method not supported (${request.method})`),
  );
  server.setErrorHandler(async (error, _request, reply) => failed(reply, error));
  return server;
}

/** As Xen 4.4: who says nothing of itself or of what it takes is a program. */
function wantsSxp({ headers }: FastifyRequest): boolean {
  const { accept = '', 'user-agent': agent = '' } = headers;
  return agent === '' || accept === '' || accept.includes(SXP_TYPE);
}

function visitOf(request: FastifyRequest, form: Form): Visit {
  const [path = '/'] = request.originalUrl.split('?');
  let parts: string[];
  try {
    parts = path
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent);
  } catch {
    throw new NotFound(`Not found: ${path}`);
  }
  const host = request.headers.host;
  const address = parts.map((part) => `/${encodeURIComponent(part)}`).join('');
  return { path: parts, form, url: host === undefined ? address : `http://${host}${address}` };
}

function send(request: FastifyRequest, reply: FastifyReply, result: Result): FastifyReply {
  const { status = 200, location, value, page, text } = result;
  void reply.code(status);
  if (location !== undefined) void reply.header('location', location);
  if (text !== undefined) return reply.header('content-type', TEXT_TYPE).send(text);
  if (wantsSxp(request)) {
    return reply.header('content-type', SXP_TYPE).send(value === undefined ? '' : printSxp(asSxp(value)));
  }
  const [path = ''] = request.originalUrl.split('?');
  const body = page ?? (value === undefined ? '' : html.value(asSxp(value)));
  return reply.header('content-type', HTML_TYPE).send(
    html.page(
      path.split('/').filter((part) => part !== ''),
      body,
    ),
  );
}

/** Structs become lists of pairs. */
function asSxp(value: XmlRpcValue): Sxp {
  if (isList(value as Sxp)) return (value as readonly XmlRpcValue[]).map(asSxp);
  if (value === null || typeof value !== 'object' || !Object.getPrototypeOf(value)) return value as Sxp;
  if (Object.getPrototypeOf(value) !== Object.prototype) return value as Sxp;
  return Object.entries(value).map(([name, member]) => [name, asSxp(member as XmlRpcValue)]);
}

/** The resources. */
class Tree {
  readonly #context: MethodContext;

  constructor(context: MethodContext) {
    this.#context = context;
  }

  async get({ path, url, form }: Visit): Promise<Result> {
    const [root, kind, name, ...deeper] = path;
    if (root === undefined) return listing(url, ['xend']);
    if (root !== 'xend' || deeper.length > 0) throw new NotFound(`Not found: ${path.at(-1) ?? ''}`);
    switch (kind) {
      case undefined:
        return listing(url, ['node', 'domain', 'vnet']);
      case 'node':
        return this.#getNode(name, url);
      case 'domain':
        return name === undefined ? this.#getDomains(form, url) : this.#getDomain(name, form, url);
      case 'vnet':
        // Xen 4.4 lists the networks of its vnet module; without the module there are none.
        if (name !== undefined) throw new NotFound(`No such vnet ${name}`);
        return { value: [] };
      default:
        throw new NotFound(`Not found: ${kind}`);
    }
  }

  /** Undefined for an operation that the resource does not know. */
  async post(visit: Visit, operation: string, sxp: boolean): Promise<Result | undefined> {
    const [root, kind, name, ...deeper] = visit.path;
    if (root !== 'xend' || deeper.length > 0) throw new NotFound(`Not found: ${visit.path.at(-1) ?? ''}`);
    if (kind === 'domain') {
      return name === undefined ? this.#postDomains(visit, operation, sxp) : this.#postDomain(visit, name, operation);
    }
    if (kind === 'node' && name === undefined) {
      // As in Xen 4.4: taken, and nothing done.
      return operation === 'shutdown' || operation === 'reboot' ? { value: 0 } : undefined;
    }
    if (kind === 'node' && name === 'dmesg' && operation === 'clear') {
      await this.#run('xend.node.dmesg.clear');
      return { value: 0 };
    }
    if (kind === 'vnet' && name === undefined) {
      if (operation === 'create') throw new XendError('this host has no vnet module');
      return undefined;
    }
    if (kind === 'vnet') throw new NotFound(`No such vnet ${name ?? ''}`);
    if (kind === undefined || kind === 'node') return undefined;
    throw new NotFound(`Not found: ${kind}`);
  }

  async #run(method: string, ...args: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    const row = methods.get(method);
    if (!row) throw new XendError(`${method} is not supported`);
    return row.run(this.#context, args);
  }

  async #getNode(name: string | undefined, url: string): Promise<Result> {
    switch (name) {
      case undefined: {
        const info = (await this.#run('xend.node.info')) as readonly (readonly [string, XmlRpcValue])[];
        return { value: ['node', ...info], page: html.node(url, info) };
      }
      case 'log':
        return { text: textOf(await this.#run('xend.node.log')) };
      case 'dmesg':
        return { text: textOf(await this.#run('xend.node.dmesg.info')) };
      default:
        throw new NotFound(`Not found: ${name}`);
    }
  }

  async #getDomains(form: Form, url: string): Promise<Result> {
    const detail = form.get('detail') === '1';
    const state = form.get('state') ?? 'running';
    const value = detail
      ? await this.#run('xend.domains', 1, 1)
      : await this.#run('xend.domains_with_state', 0, state, 0);
    const names = detail ? await this.#run('xend.domains', 0) : value;
    return { value, page: html.domains(url, names as readonly string[]) };
  }

  async #getDomain(name: string, form: Form, url: string): Promise<Result> {
    if (form.get('op') === 'vcpuinfo') return { value: await this.#run('xend.domain.getVCPUInfo', name) };
    const value = await this.#run('xend.domain', name, 1);
    return { value, page: html.domain(url, value as Sxp) };
  }

  async #postDomains({ form, url }: Visit, operation: string, sxp: boolean): Promise<Result | undefined> {
    switch (operation) {
      case 'create':
      case 'new': {
        const config = sxpOf(form.get('config') ?? '');
        try {
          const value = await this.#run(`xend.domain.${operation}`, config);
          return operation === 'new' ? {} : created(url, value, sxp);
        } catch (error) {
          throw new XendError(`Error creating domain: ${messageOf(error)}`, { cause: error });
        }
      }
      case 'restore': {
        const file = form.get('file');
        if (file === undefined) throw new XendError('Missing parameter: file');
        return created(url, await this.#run('xend.domain.restore', file), sxp);
      }
      case 'list':
        return this.#getDomains(new Map([...form, ['detail', '1']]), url);
      default:
        return undefined;
    }
  }

  async #postDomain({ form, url }: Visit, name: string, operation: string): Promise<Result | undefined> {
    // A domain that is not there is told before an operation that is not.
    await this.#run('xend.domain', name);
    const row = DOMAIN_OPERATIONS.get(operation);
    if (row === undefined) return undefined;
    const method = methods.get(`xend.domain.${row.method}`);
    if (!method) throw new XendError(`${operation} is not supported`);
    const result = await method.run(this.#context, argumentsOf(method, [name], row.fields, form));
    const value = result === null ? undefined : result;
    return row.accepted ? { status: 202, location: `${url}/..`, value } : { value };
  }
}

function listing(url: string, names: readonly string[]): Result {
  return { value: ['ls', ...names], page: html.list(url, names) };
}

function created(url: string, value: XmlRpcValue, sxp: boolean): Result {
  const name = nameIn(value);
  const location = `${url}/${encodeURIComponent(name)}`;
  const result = { status: 201, location, value };
  return sxp ? result : { ...result, page: html.created(location, name) };
}

function nameIn(value: XmlRpcValue): string {
  for (const item of Array.isArray(value) ? (value as readonly XmlRpcValue[]) : []) {
    if (Array.isArray(item) && item[0] === 'name') return String(item[1]);
  }
  return '';
}

const textOf = (value: XmlRpcValue): string => (typeof value === 'string' ? value : '');
