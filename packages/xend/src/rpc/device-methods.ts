/** xend.domain.*: devices of one machine (facts, section 3). */
import * as operations from '../domain/operations.ts';
import { deviceSxprs } from '../device/controller.ts';
import { DOM, INVALID_DOMAIN, XEND_ERROR, method, vmOf, type Method } from './method.ts';

const DOM_FAULTS = [INVALID_DOMAIN, XEND_ERROR];
const CLASS = { name: 'class', type: 'string' } as const;
const DEVID = { name: 'devid', type: 'string' } as const;

export const deviceMethods: readonly Method[] = [
  method({
    name: 'xend.domain.waitForDevices',
    doc: 'Waits until the backends of all devices are connected; a device that fails is taken away.',
    params: [DOM],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom) {
      await operations.waitForVmDevices(context.manager, await vmOf(context, dom));
      return null;
    },
  }),
  method({
    name: 'xend.domain.getDeviceSxprs',
    doc: 'The frontends of a class of devices as they stand in xenstore.',
    params: [DOM, CLASS],
    returns: 'array',
    faults: DOM_FAULTS,
    run: async (context, dom, name) => deviceSxprs(await vmOf(context, dom), context.manager.ports.store, name),
  }),
  method({
    name: 'xend.domain.device_create',
    doc: 'Adds a device, waits for its backend, and answers its class and number.',
    params: [DOM, { name: 'config', type: 'sxp' }],
    returns: 'array',
    faults: DOM_FAULTS,
    run: async (context, dom, config) => operations.addDevice(context.manager, await vmOf(context, dom), config),
  }),
  method({
    name: 'xend.domain.destroyDevice',
    doc: 'Takes a device away; with force, without waiting for the guest.',
    params: [
      DOM,
      CLASS,
      DEVID,
      { name: 'force', type: 'bool', default: false },
      { name: 'rm_cfg', type: 'bool', default: false },
    ],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, name, devid, force) {
      await operations.destroyDevice(context.manager, await vmOf(context, dom), name, devid, force);
      return null;
    },
  }),
  method({
    name: 'xend.domain.getBlockDeviceClass',
    doc: 'Whether a disk is a vbd, a tap or a tap2.',
    params: [DOM, DEVID],
    returns: 'string',
    faults: DOM_FAULTS,
    run: async (context, dom, devid) => operations.blockDeviceClass(context.manager, await vmOf(context, dom), devid),
  }),
];
