/** The commands that pass their words to one method of xend and say nothing when it works. */
import { atomText, childValue } from '@xenhost/sxp';
import { InvalidArgument } from '../errors.ts';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxp } from './domain-rows.ts';

/** Words as strings, to one method. */
const passTo =
  (method: string): Run =>
  async ({ server }, args) => {
    await server.call(method, ...args);
    return undefined;
  };

export const destroy = passTo('xend.domain.destroy');
export const delete_ = passTo('xend.domain.delete');
export const reset = passTo('xend.domain.reset');
export const rename = passTo('xend.domain.setName');
export const sysrq = passTo('xend.domain.send_sysrq');

export const pause: Run = async ({ server }, [dom = '']) => {
  await server.call('xend.domain.pause', dom);
  await server.call('xend.domain.setpauseflag', dom, true);
  return undefined;
};

export const unpause: Run = async ({ server }, [dom = '']) => {
  await server.call('xend.domain.unpause', dom);
  await server.call('xend.domain.setpauseflag', dom, false);
  return undefined;
};

export const trigger: Run = async ({ server }, [dom = '', name = '', vcpu = '0']) => {
  await server.call('xend.domain.send_trigger', dom, name, wholeNumber(vcpu));
  return undefined;
};

async function showField({ world, server }: CommandContext, dom: string, field: string): Promise<undefined> {
  const domain = asSxp(await server.call('xend.domain', dom));
  print(world, atomText(childValue(domain, field)) ?? 'None');
}

export const domid: Run = (context, [name = '']) => showField(context, name, 'domid');
export const domname: Run = (context, [id = '']) => showField(context, id, 'name');

/** Python's int() of a word. Throws InvalidArgument. */
export function wholeNumber(text: string): number {
  const value = /^\s*[-+]?\d{1,15}\s*$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new InvalidArgument();
  return value;
}

const UNITS: Readonly<Record<string, number>> = { g: 2 ** 30, m: 2 ** 20, k: 2 ** 10 };

/** `64`, `64m`, `1G` in MiB, rounded down. Throws InvalidArgument. */
export function mebibytes(text: string): number {
  const unit = /[a-zA-Z]$/.exec(text)?.[0].toLowerCase();
  if (unit === undefined) return wholeNumber(text);
  const scale = UNITS[unit];
  if (scale === undefined) throw new InvalidArgument();
  return Math.floor((wholeNumber(text.slice(0, -1)) * scale) / 2 ** 20);
}

export const memSet: Run = async ({ server }, [dom = '', memory = '']) => {
  await server.call('xend.domain.setMemoryTarget', dom, mebibytes(memory));
  return undefined;
};

export const memMax: Run = async ({ server }, [dom = '', memory = '']) => {
  await server.call('xend.domain.maxmem_set', dom, mebibytes(memory));
  return undefined;
};
