/** xend.node.*: the host (facts, section 3). */
import { nodeInfo } from '../node/info.ts';
import { method, type Method } from './method.ts';

export const nodeMethods: readonly Method[] = [
  method({
    name: 'xend.node.info',
    doc: 'The host, its CPUs and memory, and the hypervisor, as pairs in a fixed order.',
    params: [{ name: 'show_numa', type: 'bool', default: true }],
    returns: 'array',
    run: ({ manager }, showNuma) => nodeInfo(manager.ports, showNuma),
  }),
  method({
    name: 'xend.node.pciinfo',
    doc: 'PCI devices that could be given to guests; nil, for there is no pciback.',
    params: [],
    returns: 'array',
    run: () => Promise.resolve(null),
  }),
  method({
    name: 'xend.node.log',
    doc: 'The text of xend.log.',
    params: [],
    returns: 'string',
    run: ({ manager }) => Promise.resolve(manager.ports.log.read()),
  }),
  method({
    name: 'xend.node.send_debug_keys',
    doc: 'Sends keys to the hypervisor as its serial console would.',
    params: [{ name: 'keys', type: 'string' }],
    returns: 'nil',
    async run({ manager }, keys) {
      await manager.ports.xc.sendDebugKeys(keys);
      return null;
    },
  }),
  method({
    name: 'xend.node.dmesg.info',
    doc: "The hypervisor's console messages.",
    params: [],
    returns: 'string',
    run: async ({ manager }) => (await manager.ports.xc.readconsolering()).text,
  }),
  method({
    name: 'xend.node.dmesg.clear',
    doc: "The hypervisor's console messages, which are emptied after they were read.",
    params: [],
    returns: 'string',
    run: async ({ manager }) => (await manager.ports.xc.readconsolering({ clear: true })).text,
  }),
];
