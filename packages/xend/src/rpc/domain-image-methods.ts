/** xend.domain.*: a machine's memory in files: save, restore, suspend, resume, migrate, dump (facts, section 3). */
import * as checkpoint from '../domain/checkpoint.ts';
import { dump } from '../domain/dump-core.ts';
import { vmSxp } from '../domain/view.ts';
import { migrate } from '../relocation/send.ts';
import { DOM, INVALID_DOMAIN, XEND_ERROR, method, vmOf, type Method } from './method.ts';

const DOM_FAULTS = [INVALID_DOMAIN, XEND_ERROR];
const flag = (name: string) => ({ name, type: 'bool', default: false }) as const;

export const domainImageMethods: readonly Method[] = [
  method({
    name: 'xend.domain.suspend',
    doc: 'Saves a managed domain beside its configuration and ends it.',
    params: [DOM],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom) {
      await checkpoint.suspend(context.manager, await vmOf(context, dom), dom);
      return null;
    },
  }),
  method({
    name: 'xend.domain.resume',
    doc: 'Brings a suspended managed domain back.',
    params: [DOM, flag('paused')],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run({ manager }, dom, paused) {
      await checkpoint.resume(manager, dom, paused);
      return null;
    },
  }),
  method({
    name: 'xend.domain.save',
    doc: 'Writes a running domain to a file; with checkpoint it goes on, else it ends.',
    params: [DOM, { name: 'file', type: 'string' }, flag('checkpoint')],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, file, goOn) {
      await checkpoint.save(context.manager, await vmOf(context, dom), dom, file, goOn);
      return null;
    },
  }),
  method({
    name: 'xend.domain.restore',
    doc: 'Makes a domain of a file that save wrote.',
    params: [{ name: 'file', type: 'string' }, flag('paused')],
    returns: 'array',
    faults: [XEND_ERROR],
    run: async ({ manager }, file, paused) =>
      vmSxp(await checkpoint.restore(manager, file, paused), true, manager.settings.vifScript),
  }),
  method({
    name: 'xend.domain.migrate',
    doc: 'Moves a running domain to another host.',
    params: [
      DOM,
      { name: 'host', type: 'string' },
      flag('live'),
      { name: 'port', type: 'int', default: 0 },
      { name: 'node', type: 'int', default: -1 },
      { name: 'ssl', type: 'optionalBool', default: undefined },
      flag('change_home_server'),
    ],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, host, live, port, node, ssl, changeHomeServer) {
      const vm = await vmOf(context, dom);
      await migrate(context.manager, vm, dom, host, {
        live,
        port,
        node,
        ssl,
        changeHomeServer,
      });
      return null;
    },
  }),
  method({
    name: 'xend.domain.dump',
    doc: 'Writes a core of a domain; with live it runs on meanwhile, with crash or reset it is destroyed or reset after.',
    params: [
      DOM,
      { name: 'file', type: 'optionalString', default: undefined },
      flag('live'),
      flag('crash'),
      flag('reset'),
    ],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, file, live, crash, reset) {
      await dump(context.manager, await vmOf(context, dom), dom, file, { live, crash, reset });
      return null;
    },
  }),
];
