/**
 * The one place where a call of the Xen-API becomes a result struct: method, session, argument count, handler, and what
 * listeners are told (Xen 4.4 `XendAPI.py`, its decorators and XendAPIAsyncProxy). Nothing is thrown past it.
 */
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { InvalidDomainError, XendError, messageOf } from '../errors.ts';
import type { XenApi, XenApiOptions, XenApiPeer, XenApiPorts } from './api.ts';
import { PoolError } from '../domain/pools.ts';
import { poolFailure } from './classes/cpu-pool.ts';
import { apiClasses } from './classes/index.ts';
import { ApiError, countMismatch, handleInvalid, internalError, methodUnknown } from './errors.ts';
import type { Session } from './sessions.ts';
import type { Row } from './table.ts';
import type { Outcome } from './tasks.ts';
import { toWire } from './values.ts';
import { isTransient } from './vm-extras.ts';
import { World } from './world.ts';

const ASYNC = 'Async.';
const NO_SESSION: Session = { ref: '', user: '', lastActiveNs: 0n, lastActive: new Date(0) };

export function createXenApi(options: XenApiOptions, ports: XenApiPorts): XenApi {
  const world = new World(options, ports, apiClasses);
  const dispatcher = new Dispatcher(world);
  let loading: Promise<void> | undefined;
  const load = (): Promise<void> => (loading ??= world.load());
  world.manager.isTransient = async (vm) => {
    await load();
    return isTransient(world, vm);
  };
  return {
    has: (method) => dispatcher.has(method),
    methodNames: () => dispatcher.methodNames(),
    async call(method, params, peer) {
      try {
        await load();
        return await dispatcher.call(method, params, peer);
      } catch (error) {
        return failure(dispatcher.describe(method, error));
      }
    },
    close: () => world.close(),
  };
}

const success = (value: XmlRpcValue): XmlRpcStruct => ({ Status: 'Success', Value: value });
const failure = (description: readonly string[]): XmlRpcStruct => ({
  Status: 'Failure',
  ErrorDescription: toWire(description),
});

class Dispatcher {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  has(method: string): boolean {
    if (INTROSPECTION.has(method)) return true;
    if (!method.startsWith(ASYNC)) return this.#world.rows.has(method);
    return this.#world.rows.get(method.slice(ASYNC.length))?.async ?? false;
  }

  methodNames(): string[] {
    return [...this.#world.rows.keys(), ...INTROSPECTION.keys()].sort();
  }

  async call(method: string, params: readonly XmlRpcValue[], peer: XenApiPeer): Promise<XmlRpcValue> {
    const bare = INTROSPECTION.get(method);
    if (bare) return bare(this, this.#world, params[0]);
    if (method.startsWith(ASYNC)) return success(this.#start(method, params, peer));
    const row = this.#world.rows.get(method);
    if (!row) {
      // xend answered for its old methods here too, always with the same error, as they have no status.
      if (this.#world.ports.methods.has(method)) throw internalError(`${method} is no method of the Xen-API`);
      throw methodUnknown(method);
    }
    const session = this.#admit(row, method, params);
    const args = row.session ? params.slice(1) : params;
    return success(await this.#run(row, { method, peer, session, progress: () => undefined }, args));
  }

  /** Session, then count. */
  #admit(row: Row, method: string, params: readonly XmlRpcValue[]): Session {
    if (row.session && params.length === 0) throw mismatch(row, method, params);
    const session = row.session ? this.#world.sessions.use(params[0]) : NO_SESSION;
    const given = row.session ? params.length - 1 : params.length;
    if (given < requiredOf(row) || given > row.params.length) throw mismatch(row, method, params);
    return session;
  }

  async #run(row: Row, call: Parameters<Row['run']>[1], args: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    const world = this.#world;
    try {
      const value = toWire(await row.run(world, call, args));
      const ref = row.effect?.operation === 'add' ? value : args[0];
      if (row.effect && typeof ref === 'string') world.tell(row.effect.operation, row.class, ref, row.effect.field);
      else if (!row.reads) world.observer.look();
      return value;
    } catch (error) {
      // What has failed may have been half done.
      if (!row.reads) world.observer.look();
      throw error;
    }
  }

  #start(method: string, params: readonly XmlRpcValue[], peer: XenApiPeer): string {
    const row = this.#world.rows.get(method.slice(ASYNC.length));
    if (!row?.async) throw methodUnknown(method);
    const session = this.#admit(row, method, params);
    const args = params.slice(1);
    const options = { label: row.name, type: row.returns === 'void' ? '' : row.returns, session: session.ref };
    // The caller's connection may go; the work does not end with it.
    const lasting: XenApiPeer = { local: peer.local, auth: peer.auth, signal: this.#world.closing };
    return this.#world.tasks.start(options, async (progress): Promise<Outcome> => {
      try {
        const value = await this.#run(row, { method: row.name, peer: lasting, session, progress }, args);
        return { status: 'success', value };
      } catch (error) {
        return { status: 'failure', description: this.describe(method, error) };
      }
    }).ref;
  }

  /** What the caller is told of anything thrown; what is not the caller's fault is logged. */
  describe(method: string, error: unknown): readonly string[] {
    const { log } = this.#world.manager.ports;
    if (error instanceof ApiError) return error.description;
    if (error instanceof PoolError) return poolFailure(error).description;
    if (error instanceof InvalidDomainError) return handleInvalid('VM', error.asked).description;
    if (error instanceof XendError) log.warn('XendAPI', `${method}: ${error.message}`);
    else log.error('XendAPI', `Internal error handling ${method}: ${messageOf(error)}`, error);
    return internalError(messageOf(error)).description;
  }
}

const requiredOf = (row: Row): number => row.params.filter((param) => !param.optional).length;

/** Counts include the session, as xend's did. */
const mismatch = (row: Row, method: string, params: readonly XmlRpcValue[]): ApiError =>
  countMismatch(method, requiredOf(row) + Number(row.session), params.length);

const nameOf = (name: XmlRpcValue | undefined): string => (typeof name === 'string' ? name : '');

type Introspection = (dispatcher: Dispatcher, world: World, name: XmlRpcValue | undefined) => XmlRpcValue;

/** Answered bare and without a session, as XML-RPC's own convention has it. */
const INTROSPECTION: ReadonlyMap<string, Introspection> = new Map<string, Introspection>([
  ['system.listMethods', (dispatcher) => dispatcher.methodNames()],
  ['system.methodHelp', (_, world, name) => world.rows.get(nameOf(name))?.doc ?? ''],
  [
    'system.methodSignature',
    (_, world, name) => {
      const row = world.rows.get(nameOf(name));
      if (!row) return 'signatures not supported';
      const session = row.session ? ['string'] : [];
      return [['struct', ...session, ...row.params.map((param) => WIRE_TYPES[param.kind] ?? 'string')]];
    },
  ],
]);

const WIRE_TYPES: Readonly<Record<string, string>> = {
  bool: 'boolean', double: 'double', datetime: 'dateTime.iso8601', map: 'struct', struct: 'struct', set: 'array',
}; // prettier-ignore
