/** xend.domain.*: devices of one machine (facts, section 3). */
import * as operations from '../domain/device-operations.ts';
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
    run: async (context, dom, name) => operations.listDevices(context.manager, await vmOf(context, dom), name),
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
    doc: 'Takes a device away; with force, without waiting for the guest; with rm_cfg, out of the configuration too.',
    params: [
      DOM,
      CLASS,
      DEVID,
      { name: 'force', type: 'bool', default: false },
      { name: 'rm_cfg', type: 'bool', default: false },
    ],
    returns: 'nil',
    faults: DOM_FAULTS,
    async run(context, dom, name, devid, force, removeConfig) {
      await operations.destroyDevice(context.manager, await vmOf(context, dom), name, devid, force, removeConfig);
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
  method({
    name: 'xend.domain.device_configure',
    doc: 'Changes the medium in a CD-ROM drive.',
    params: [DOM, { name: 'config', type: 'sxp' }, { name: 'devid', type: 'optionalString', default: undefined }],
    returns: 'boolean',
    faults: DOM_FAULTS,
    run: async (context, dom, config, devid) =>
      operations.configureDevice(context.manager, await vmOf(context, dom), config, devid),
  }),
  ...(['add', 'del'] as const).map((what) =>
    method({
      name: `xend.domain.usb_${what}`,
      doc: `${what === 'add' ? 'Gives a guest' : 'Takes from a guest'} a USB device of the host: HVM guests only.`,
      params: [DOM, { name: 'dev_id', type: 'string' }],
      returns: 'nil',
      faults: DOM_FAULTS,
      run: async (context, dom) => operations.refuseUsb(await vmOf(context, dom), what),
    }),
  ),
];
