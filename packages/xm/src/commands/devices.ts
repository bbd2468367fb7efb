/** xm block-*, network-*, network2-*: listing, attaching and detaching virtual devices. */
import { atomNumber, atomText, childValue, isList, prettySxp, type Sxp } from '@xenhost/sxp';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxpList, asText, printJson, sxpJson } from './domain-rows.ts';
import { isMac, noSuchDevice, onlyDomain, refused } from './words.ts';

/** The one domain of a listing, and whether to show all. */
export function listArguments({ world }: CommandContext, args: readonly string[]): { dom: string; long: boolean } {
  const { options, words } = getopt(args, [{ name: 'long', short: 'l', long: 'long' }]);
  return { dom: onlyDomain(world, words), long: options.length > 0 };
}

/** Pairs of a device, as xm reads them. */
export interface DeviceView {
  readonly index: number;
  readonly number: (key: string, missing: number) => number;
  readonly text: (key: string, missing?: string) => string;
}

export function deviceView(device: Sxp): DeviceView {
  const [devid, pairs] = isList(device) ? device : [];
  return {
    index: atomNumber(devid) ?? 0,
    number: (key, missing) => atomNumber(childValue(pairs, key)) ?? missing,
    text: (key, missing = '??') => atomText(childValue(pairs, key)) ?? missing,
  };
}

async function listDevices(
  context: CommandContext,
  args: readonly string[],
  devicesOf: (dom: string) => Promise<readonly Sxp[]>,
  header: string,
  row: (device: DeviceView) => string,
): Promise<number> {
  const { world } = context;
  const { dom, long } = listArguments(context, args);
  const devices = await devicesOf(dom);
  if (context.json) return printJson(context, devices.map(deviceJson));
  for (const [index, device] of devices.entries()) {
    if (long) {
      print(world, prettySxp(device));
      continue;
    }
    if (index === 0) print(world, header);
    print(world, row(deviceView(device)));
  }
  return 0;
}

export function deviceJson(device: Sxp): unknown {
  const [devid, pairs] = isList(device) ? device : [];
  const inside = sxpJson(pairs ?? []);
  return { devid: atomNumber(devid) ?? null, ...(typeof inside === 'object' && !Array.isArray(inside) ? inside : {}) };
}

export const legacyDevices =
  ({ server }: CommandContext, deviceClass: string) =>
  async (dom: string): Promise<readonly Sxp[]> =>
    asSxpList(await server.call('xend.domain.getDeviceSxprs', dom, deviceClass));

export const networkList: Run = async (context, args) =>
  listDevices(
    context,
    args,
    context.api ? (await import('../xen-api/devices.ts')).vifsOf(context.api) : legacyDevices(context, 'vif'),
    'Idx BE     MAC Addr.     handle state evt-ch tx-/rx-ring-ref BE-path',
    ({ index, number, text }) =>
      format(
        '%-3d %-3d%-17s    %-3d   %-3d    %-3d   %-5d/%-5d   %-30s  ',
        index,
        number('backend-id', -1),
        text('mac'),
        number('handle', 0),
        number('state', -1),
        number('event-channel', -1),
        number('tx-ring-ref', -1),
        number('rx-ring-ref', -1),
        text('backend'),
      ),
  );

export const blockList: Run = async (context, args) =>
  listDevices(
    context,
    args,
    context.api ? (await import('../xen-api/devices.ts')).vbdsOf(context.api) : legacyDevices(context, 'vbd'),
    'Vdev  BE handle state evt-ch ring-ref BE-path',
    ({ index, number, text }) =>
      format(
        '%-5d  %-3d  %-3d   %-3d    %-3d    %-5d %-30s  ',
        index,
        number('backend-id', -1),
        number('handle', 0),
        number('state', -1),
        number('event-channel', -1),
        number('ring-ref', -1),
        text('backend'),
      ),
  );

/** Always in full: Xen 4.4 has no columns for them. */
export const network2List: Run = async (context, args) => {
  const { dom } = listArguments(context, args);
  const devices = await legacyDevices(context, 'vif2')(dom);
  if (context.json) return printJson(context, devices.map(deviceJson));
  for (const device of devices) print(context.world, prettySxp(device));
  return undefined;
};

const VIF_KEYS = ['type', 'mac', 'bridge', 'ip', 'script', 'backend', 'vifname', 'rate', 'model', 'accel'];
const VIF2_KEYS = [
  'front_mac', 'back_mac', 'backend', 'trusted', 'back_trusted', 'front_filter_mac', 'filter_mac', 'bridge', 'pdev', 'max_bypasses',
]; // prettier-ignore

/** `key=value` words of known keys, none of them empty. Ends with the usage. */
function keyValues({ world }: CommandContext, words: readonly string[], keys: readonly string[]): [string, string][] {
  return words.map((word) => {
    const [key = '', value = '', ...more] = word.split('=');
    if (value === '' || more.length > 0 || !keys.includes(key)) throw refused(world, `Invalid argument: ${word}`);
    return [key, value];
  });
}

export const networkAttach: Run = async (context, [dom = '', ...words]) => {
  const { server, api } = context;
  // The Xen-API's machine is looked up before the words are looked at.
  const vm = await api?.vm(dom);
  const pairs = keyValues(context, words, VIF_KEYS);
  if (api && vm !== undefined) await (await import('../xen-api/devices.ts')).createVif(api, vm, pairs);
  else await server.call('xend.domain.device_create', dom, ['vif', ...pairs]);
  return undefined;
};

export const network2Attach: Run = async (context, [dom = '', ...words]) => {
  const pairs = keyValues(context, words, VIF2_KEYS);
  await context.server.call('xend.domain.device_create', dom, ['vif2', ...pairs]);
  return undefined;
};

function blockDevice([back = '', front = '', mode = '', backDomain]: readonly string[]): Sxp[] {
  const deviceClass = back.startsWith('tap2:') ? 'tap2' : back.startsWith('tap:') ? 'tap' : 'vbd';
  const device: Sxp[] = [deviceClass, ['uname', back], ['dev', front], ['mode', mode]];
  return backDomain === undefined ? device : [...device, ['backend', backDomain]];
}

export const blockAttach: Run = async ({ server, api }, [dom = '', ...words]) => {
  if (api) await (await import('../xen-api/devices.ts')).createVbd(api, dom, words);
  else await server.call('xend.domain.device_create', dom, blockDevice(words));
  return undefined;
};

export const blockConfigure: Run = async ({ server }, [dom = '', ...words]) => {
  await server.call('xend.domain.device_configure', dom, blockDevice(words));
  return undefined;
};

/** Takes a device away, from the configuration too; the third word may force it. */
async function detach(
  { world, server }: CommandContext,
  deviceClass: string,
  words: readonly string[],
): Promise<undefined> {
  const [dom = '', devid = '', option] = words;
  const force = option === '-f' || option === '--force';
  if (option !== undefined && !force) print(world, `Ignoring option ${option}`);
  await server.call('xend.domain.destroyDevice', dom, deviceClass, devid, force, true);
}

export const blockDetach: Run = async (context, args) => {
  const { server, api } = context;
  const [dom = '', devid = ''] = args;
  if (api) {
    await (await import('../xen-api/devices.ts')).destroyVbd(api, dom, devid);
    return undefined;
  }
  const found = asText(await server.call('xend.domain.getBlockDeviceClass', dom, devid));
  return detach(context, found === 'tap' || found === 'tap2' ? found : 'vbd', args);
};

export const network2Detach: Run = (context, args) => detach(context, 'vif2', args);

export const networkDetach: Run = async (context, args) => {
  const [dom = '', devid = '', ...options] = args;
  if (context.api) {
    await (await import('../xen-api/devices.ts')).destroyVif(context.api, dom, devid);
    return undefined;
  }
  if (!isMac(devid)) return detach(context, 'vif', args);
  const devices = await legacyDevices(context, 'vif')(dom);
  const found = devices.map(deviceView).find(({ text }) => text('mac').toLowerCase() === devid.toLowerCase());
  if (!found) throw noSuchDevice(devid, dom);
  return detach(context, 'vif', [dom, String(found.index), ...options]);
};
