/** xm scsi-* and usb-*: a host's SCSI and USB devices for guests. The host of ours has none; lists come from xend. */
import { atomNumber, atomText, childOf, childValue, isList, prettySxp, type Sxp } from '@xenhost/sxp';
import { wrongArguments } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { deviceJson, deviceView, legacyDevices, listArguments } from './devices.ts';
import { printJson } from './domain-rows.ts';
import { wholeNumber } from './numbers.ts';

const CLOSING = 5;
const HCTL_PARTS = 4;

/** The host adapter with the devices behind it in the order of their virtual addresses. */
function sortedByAddress(device: Sxp): Sxp {
  const [devid, pairs] = isList(device) ? device : [];
  if (devid === undefined || !isList(pairs)) return device;
  const address = (dev: Sxp): number[] => (atomText(childValue(dev, 'v-dev')) ?? '').split(':').map(Number);
  const order = (a: Sxp, b: Sxp): number => {
    const [x, y] = [address(a), address(b)];
    const at = [1, 2, 3].find((i) => x[i] !== y[i]);
    return at === undefined ? 0 : (x[at] ?? 0) - (y[at] ?? 0);
  };
  const sorted = pairs.map((pair): Sxp => {
    const [key, devs] = isList(pair) ? pair : [];
    return key === 'devs' && isList(devs) ? ['devs', [...devs].sort(order)] : pair;
  });
  return [devid, sorted];
}

export const scsiList: Run = async (context, args) => {
  const { world } = context;
  const { dom, long } = listArguments(context, args);
  const list = context.api
    ? (await import('../xen-api/devices.ts')).dscsisOf(context.api)
    : legacyDevices(context, 'vscsi');
  const devices = (await list(dom)).map(sortedByAddress);
  if (context.json) return printJson(context, devices.map(deviceJson));
  for (const [index, device] of devices.entries()) {
    if (long) {
      print(world, prettySxp(device));
      continue;
    }
    if (index === 0) {
      print(world, format('%-3s %-3s %-5s %-4s  %-10s %-5s %-10s %-4s', 'Idx', 'BE', 'state', 'host', 'phy-hctl', 'phy', 'vir-hctl', 'devstate')); // prettier-ignore
    }
    const { index: devid, number } = deviceView(device);
    const start = format('%-3d %-3d %-5d %-4d ', devid, number('backend-id', -1), number('state', -1), number('feature-host', -1)); // prettier-ignore
    const inside = childValue(isList(device) ? device[1] : undefined, 'devs');
    for (const dev of isList(inside) ? inside : []) {
      const text = (key: string): string => atomText(childValue(dev, key)) ?? '';
      print(world, `${start} ${format('%-10s %-5s %-10s %-4s', text('p-dev'), text('p-devname'), text('v-dev'), text('frontstate'))}`); // prettier-ignore
    }
  }
  return undefined;
};

/** No host adapter is here to look a device up in: the text of a host that has no such device. */
export const scsiAttach: Run = async (_context, [, physical = '', virtual = '']) => {
  if (virtual !== 'host' && virtual.split(':').length !== HCTL_PARTS) {
    throw wrongArguments(`Invalid argument: ${virtual}`);
  }
  return Promise.reject(wrongArguments(`Cannot find device '${physical}'`));
};

export const scsiDetach: Run = async ({ server, api }, [dom = '', virtual = '']) => {
  const parts = virtual.split(':');
  if (parts.length !== HCTL_PARTS) throw wrongArguments(`Invalid argument: ${virtual}`);
  if (api) throw wrongArguments(`Device ${virtual} not assigned`);
  const dev = ['dev', ['state', CLOSING], ['devid', wholeNumber(parts[0] ?? '')], ['p-dev', null], ['p-devname', null], ['v-dev', virtual]]; // prettier-ignore
  await server.call('xend.domain.device_configure', dom, ['vscsi', ['feature-host', 0], dev]);
  return undefined;
};

export const usbList: Run = async (context, [dom = '']) => {
  const { world } = context;
  const devices = await legacyDevices(context, 'vusb')(dom);
  if (context.json) return printJson(context, devices.map(deviceJson));
  for (const device of devices) {
    const { index, number, text } = deviceView(device);
    print(world, format('%-3s %-3s %-5s %-7s  %-30s', 'Idx', 'BE', 'state', 'usb-ver', 'BE-path'));
    const version = number('usb-ver', 2) === 1 ? 'USB1.1' : 'USB2.0';
    print(world, format('%-3d %-3d %-5d %-7s %-30s  ', index, number('backend-id', -1), number('state', -1), version, text('backend'))); // prettier-ignore
    for (const port of portsOf(device)) print(world, `port ${port.number}: ${port.bus}`);
  }
  return undefined;
};

function portsOf(device: Sxp): { readonly number: number; readonly bus: string }[] {
  const ports = childOf(isList(device) ? device[1] : undefined, 'port') ?? [];
  return ports.slice(1).flatMap((port) => {
    const [number, bus] = isList(port) ? port : [];
    return number === undefined ? [] : [{ number: atomNumber(number) ?? 0, bus: atomText(bus) ?? '' }];
  });
}

/** A host without USB devices lists none. */
export const usbListAssignable: Run = (context) => Promise.resolve(context.json ? printJson(context, []) : undefined);

const BUS = /^\d{1,2}[-,]\d{1,2}(?:[.,]\d{1,2}){0,5}$/;

/** Ends as 4.4 does: said on standard output, and still a success. */
export const usbAttach: Run = async (context, [dom = '', dev = '', port = '', bus = '']) => {
  const { world, server } = context;
  const devices = await legacyDevices(context, 'vusb')(dom);
  const device = devices.find((candidate) => deviceView(candidate).index === wholeNumber(dev));
  const say = (text: string): number => {
    print(world, text);
    return 0;
  };
  if (!device) return say(`Cannot find device '${dev}' in domain '${dom}'`);
  const ports = deviceView(device).number('num-ports', 0);
  if (wholeNumber(port) < 1 || wholeNumber(port) > ports) return say(`Invalid Port Number '${port}'`);
  if (!BUS.test(bus)) return say(`Invalid Busid '${bus}'`);
  if (portsOf(device).some((one) => one.bus === bus)) {
    return say(`Cannot assign already attached bus '${bus}', detach first.`);
  }
  if (portsOf(device).some((one) => one.number === Number(port) && one.bus !== '')) {
    return say(`Cannot override already attached port '${port}', detach first.`);
  }
  await server.call('xend.domain.device_configure', dom, ['vusb', ['port', [port, bus]]], dev);
  return undefined;
};

export const usbDetach: Run = async ({ server }, [dom = '', dev = '', port = '']) => {
  await server.call('xend.domain.device_configure', dom, ['vusb', ['port', [port, '']]], dev);
  return undefined;
};

/** Ports that a host controller may have. */
const MAX_PORTS = 127;

export const usbHcCreate: Run = async ({ server }, [dom = '', version = '', count = '']) => {
  const ports = Math.min(wholeNumber(count), MAX_PORTS);
  const port: Sxp[] = ['port'];
  for (let i = 1; i <= ports; i += 1) port.push([String(i), '']);
  await server.call('xend.domain.device_create', dom, ['vusb', ['usb-ver', version], ['num-ports', count], port]);
  return undefined;
};

export const usbHcDestroy: Run = async ({ server }: CommandContext, [dom = '', dev = '']) => {
  await server.call('xend.domain.destroyDevice', dom, 'vusb', dev);
  return undefined;
};
