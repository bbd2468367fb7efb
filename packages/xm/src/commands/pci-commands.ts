/** xm pci-*: passing a host's PCI devices through. A host of ours has none: xend answers so, and xm's own checks come first. */
import { childValue, atomText, type Sxp } from '@xenhost/sxp';
import { getopt, wrongArguments } from '../getopt.ts';
import {
  AUTO_SLOT,
  PciNameError,
  devfnOf,
  funcOf,
  parsePciName,
  pciName,
  pciSxp,
  slotOf,
  type PciFunction,
} from '../pci.ts';
import { print } from '../world.ts';
import { isStruct, listOf, numberOf, textOf } from '../xen-api/values.ts';
import type { CommandContext, Run } from './command.ts';
import { listArguments } from './devices.ts';
import { printJson } from './domain-rows.ts';
import { badOption, refused } from './words.ts';

const hex = (value: unknown): number => Number.parseInt(String(value), 16);

/** The devices that a domain has. */
async function attached({ server, api }: CommandContext, dom: string): Promise<PciFunction[]> {
  if (api) {
    const devices: PciFunction[] = [];
    for (const ref of await api.list('VM.get_DPCIs', await api.vm(dom))) {
      const host = await api.record('PPCI.get_record', await api.text('DPCI.get_PPCI', ref));
      devices.push({
        domain: numberOf(host['domain']),
        bus: numberOf(host['bus']),
        slot: numberOf(host['slot']),
        func: numberOf(host['func']),
        vdevfn: Number(await api.text('DPCI.get_hotplug_slot', ref)),
        options: [],
        key: await api.text('DPCI.get_key', ref),
      });
    }
    return devices;
  }
  return listOf(await server.call('xend.domain.getDeviceSxprs', dom, 'pci')).flatMap((device) => {
    if (!isStruct(device)) return [];
    const [domain = 0, bus = 0, slot = 0, func = 0, vdevfn = AUTO_SLOT] = [
      'domain',
      'bus',
      'slot',
      'func',
      'vdevfn',
    ].map((key) => hex(textOf(device[key])));
    return [{ domain, bus, slot, func, vdevfn, options: [], key: textOf(device['key']) }];
  });
}

const place = (device: PciFunction): number =>
  ((device.vdevfn & ~7) << 20) + ((device.bus << 8) | devfnOf(device.slot, device.func));

export const pciList: Run = async (context, args) => {
  const { dom } = listArguments(context, args);
  const devices = (await attached(context, dom)).sort((a, b) => place(a) - place(b));
  const chosen = (device: PciFunction): string =>
    device.vdevfn & AUTO_SLOT ? '-' : `${slotOf(device.vdevfn).toString(16).padStart(2, '0')}.${funcOf(device.vdevfn)}`;
  if (context.json) {
    return printJson(
      context,
      devices.map((device) => ({ device: pciName(device), vdev: chosen(device) })),
    );
  }
  if (devices.length === 0) return undefined;
  const withSlot = devices.some((device) => !(device.vdevfn & AUTO_SLOT));
  print(context.world, withSlot ? 'Vdev Device' : 'Device');
  for (const device of devices) {
    print(context.world, `${withSlot ? `${chosen(device).padEnd(4)} ` : ''}${pciName(device)}`);
  }
  return undefined;
};

export const pciListAssignable: Run = async (context) => {
  const answer = await context.server.call('xend.node.pciinfo');
  if (answer === null) {
    if (context.json) return printJson(context, []);
    print(context.world, 'Error: pciback/pci-stub not loaded?');
    return undefined;
  }
  const names = listOf(answer).map((device) => {
    const [domain = 0, bus = 0, slot = 0, func = 0] = ['domain', 'bus', 'slot', 'func'].map((key) =>
      hex(atomText(childValue(device as Sxp, key)) ?? '0'),
    );
    return pciName({ domain, bus, slot, func });
  });
  if (context.json) return printJson(context, names);
  for (const name of names) print(context.world, name);
  return undefined;
};

function functionsOf(name: string): PciFunction[] {
  try {
    return parsePciName(name);
  } catch (error) {
    throw error instanceof PciNameError ? wrongArguments(error.message) : error;
  }
}

const same = (a: PciFunction, b: PciFunction): boolean => pciName(a) === pciName(b);

export const pciAttach: Run = async (context, args) => {
  const { world } = context;
  const { options, words } = badOption(() =>
    getopt(args, [{ name: 'options', short: 'o', long: 'options', takesValue: true }]),
  );
  for (const [, option] of options) {
    if (option.split('=').length !== 2) throw refused(world, `Invalid pci attach option: ${option}`);
  }
  const [dom = '', bdf = '', virtualSlot] = words;
  if (words.length < 2 || words.length > 3) throw refused(world, "Invalid argument for 'xm pci-attach'");
  const name = `${bdf}${virtualSlot === undefined ? '' : `@${virtualSlot}`}`;
  const wanted = functionsOf([name, ...options.map(([, option]) => option)].join(','));
  const there = await attached(context, dom);
  for (const device of wanted) {
    if (there.some((other) => same(device, other))) {
      throw wrongArguments(`pci: device ${pciName(device)} has been attached! `);
    }
  }
  const [head, ...rest] = wanted;
  if (!head) return undefined;
  await attachOne(context, dom, head);
  if (rest.length === 0) return undefined;
  // The device model chose a slot for the first: the others belong into it.
  const placed = head.vdevfn & AUTO_SLOT ? (await attached(context, dom)).find((other) => same(head, other)) : head;
  if (!placed) throw wrongArguments(`pci: device ${pciName(head)} is not attached!`);
  for (const device of rest) {
    const vdevfn = !(placed.vdevfn & AUTO_SLOT) ? devfnOf(slotOf(placed.vdevfn), funcOf(device.vdevfn)) : device.vdevfn;
    await attachOne(context, dom, { ...device, vdevfn });
  }
  return undefined;
};

async function attachOne({ server, api }: CommandContext, dom: string, device: PciFunction): Promise<void> {
  if (!api) {
    await server.call('xend.domain.device_configure', dom, ['pci', pciSxp(device), ['state', 'Initialising']]);
    return;
  }
  for (const ref of await api.list('PPCI.get_all')) {
    if ((await api.text('PPCI.get_name', ref)) !== pciName(device)) continue;
    await api.call('DPCI.create', {
      VM: await api.vm(dom),
      PPCI: ref,
      hotplug_slot: device.vdevfn,
      options: Object.fromEntries(device.options),
      key: device.key,
    });
    return;
  }
  throw wrongArguments(`Device ${pciName(device)} not found`);
}

export const pciDetach: Run = async (context, [dom = '', bdf = '']) => {
  const { server, api } = context;
  const wanted = functionsOf(bdf);
  const there = await attached(context, dom);
  for (const device of wanted) {
    if (!there.some((other) => same(device, other))) {
      throw wrongArguments(`pci: device ${pciName(device)} is not attached!`);
    }
  }
  for (const device of wanted) {
    if (!api) {
      await server.call('xend.domain.device_configure', dom, ['pci', pciSxp(device), ['state', 'Closing']]);
      continue;
    }
    for (const ref of await api.list('VM.get_DPCIs', await api.vm(dom))) {
      const name = await api.text('PPCI.get_name', await api.text('DPCI.get_PPCI', ref));
      if (name === pciName(device)) await api.call('DPCI.destroy', ref);
    }
  }
  return undefined;
};
