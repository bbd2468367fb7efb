/** xm network-list, -attach, -detach and block-list, -attach, -detach. */
import { atomNumber, atomText, childValue, isList, prettySxp, type Sxp } from '@xenhost/sxp';
import { Exit, OptionError } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print, printError } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxpList, asText } from './domain-rows.ts';

/** The one domain of a list command, and whether to show all. */
function listArguments({ world }: CommandContext, args: readonly string[]): { dom: string; long: boolean } {
  const { options, words } = getopt(args, [{ name: 'long', short: 'l', long: 'long' }]);
  const [dom] = words;
  if (dom === undefined || words.length > 1) {
    print(world, dom === undefined ? 'No domain parameter given' : 'No multiple domain parameters allowed');
    throw new Exit(1, { usage: true });
  }
  return { dom, long: options.length > 0 };
}

async function listDevices(
  context: CommandContext,
  args: readonly string[],
  deviceClass: string,
  header: string,
  row: (devid: number, number: (key: string, missing: number) => number, text: (key: string) => string) => string,
): Promise<undefined> {
  const { world, server } = context;
  const { dom, long } = listArguments(context, args);
  const devices = asSxpList(await server.call('xend.domain.getDeviceSxprs', dom, deviceClass));
  for (const [index, device] of devices.entries()) {
    if (long) {
      print(world, prettySxp(device));
      continue;
    }
    if (index === 0) print(world, header);
    const [devid, pairs] = isList(device) ? device : [];
    const value = (key: string): Sxp | undefined => childValue(pairs, key);
    print(
      world,
      row(
        atomNumber(devid) ?? 0,
        (key, missing) => atomNumber(value(key)) ?? missing,
        (key) => atomText(value(key)) ?? '??',
      ),
    );
  }
}

export const networkList: Run = (context, args) =>
  listDevices(
    context,
    args,
    'vif',
    'Idx BE     MAC Addr.     handle state evt-ch tx-/rx-ring-ref BE-path',
    (devid, number, text) =>
      format(
        '%-3d %-3d%-17s    %-3d   %-3d    %-3d   %-5d/%-5d   %-30s  ',
        devid,
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

export const blockList: Run = (context, args) =>
  listDevices(context, args, 'vbd', 'Vdev  BE handle state evt-ch ring-ref BE-path', (devid, number, text) =>
    format(
      '%-5d  %-3d  %-3d   %-3d    %-3d    %-5d %-30s  ',
      devid,
      number('backend-id', -1),
      number('handle', 0),
      number('state', -1),
      number('event-channel', -1),
      number('ring-ref', -1),
      text('backend'),
    ),
  );

const VIF_KEYS = ['type', 'mac', 'bridge', 'ip', 'script', 'backend', 'vifname', 'rate', 'model', 'accel'];

export const networkAttach: Run = async ({ world, server }, args) => {
  const [dom = '', ...settings] = args;
  const vif: Sxp[] = ['vif'];
  for (const setting of settings) {
    const equals = setting.indexOf('=');
    const key = setting.slice(0, Math.max(0, equals));
    if (!VIF_KEYS.includes(key)) {
      printError(world, `Invalid argument: ${setting}`);
      throw new Exit(1, { usage: true });
    }
    vif.push([key, setting.slice(equals + 1)]);
  }
  await server.call('xend.domain.device_create', dom, vif);
  return undefined;
};

export const blockAttach: Run = async ({ server }, args) => {
  const [dom = '', back = '', front = '', mode = '', backDomain] = args;
  const deviceClass = back.startsWith('tap2:') ? 'tap2' : back.startsWith('tap:') ? 'tap' : 'vbd';
  const device: Sxp[] = [deviceClass, ['uname', back], ['dev', front], ['mode', mode]];
  if (backDomain !== undefined) device.push(['backend', backDomain]);
  await server.call('xend.domain.device_create', dom, device);
  return undefined;
};

function detachArguments(args: readonly string[]): { dom: string; devid: string; force: boolean } {
  const { options, words } = getopt(args, [{ name: 'force', short: 'f', long: 'force' }]);
  const [dom, devid] = words;
  if (dom === undefined || devid === undefined || words.length > 2) {
    throw new OptionError('requires between 2 and 3 arguments.');
  }
  return { dom, devid, force: options.length > 0 };
}

export const blockDetach: Run = async ({ server }, args) => {
  const { dom, devid, force } = detachArguments(args);
  const deviceClass = asText(await server.call('xend.domain.getBlockDeviceClass', dom, devid));
  await server.call('xend.domain.destroyDevice', dom, deviceClass, devid, force);
  return undefined;
};

export const networkDetach: Run = async ({ world, server }, args) => {
  const { dom, devid, force } = detachArguments(args);
  let id = devid;
  if (devid.includes(':')) {
    const devices = asSxpList(await server.call('xend.domain.getDeviceSxprs', dom, 'vif'));
    const found = devices.find(
      (device) => isList(device) && atomText(childValue(device[1], 'mac'))?.toLowerCase() === devid.toLowerCase(),
    );
    if (!isList(found)) {
      print(world, `Cannot find device '${devid}' in domain '${dom}'`);
      return 1;
    }
    id = atomText(found[0]) ?? devid;
  }
  await server.call('xend.domain.destroyDevice', dom, 'vif', id, force);
  return undefined;
};
