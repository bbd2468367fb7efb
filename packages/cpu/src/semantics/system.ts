/** Semantics of system instructions: thin, the work is in `helpers/`. Intel SDM vol. 2 and 3. */
import type { Algebra, Semantics } from './algebra.ts';

const simple =
  (name: string): Semantics =>
  (e) => {
    e.helper(name);
  };

/** #GP(0) outside ring 0, before the operand is read. */
function supervisorOnly<V>(e: Algebra<V>): void {
  e.faultWhen(e.field('cpl'), 13, 0);
}

export const systemSemantics: Readonly<Record<string, Semantics>> = {
  ud: (e) => { e.fault(6); },
  pause: simple('pause'), hlt: simple('hlt'), cli: simple('cli'), sti: simple('sti'), clts: simple('clts'),
  syscall: simple('syscall'), sysenter: simple('sysenter'), cpuid: simple('cpuid'), rdtsc: simple('rdtsc'),
  rdtscp: simple('rdtscp'), rdmsr: simple('rdmsr'), wrmsr: simple('wrmsr'), rdpmc: simple('rdpmc'),
  swapgs: simple('swapgs'), wbinvd: simple('wbinvd'), vmcall: simple('vmcall'), xgetbv: simple('xgetbv'),
  xsetbv: simple('xsetbv'),
  fence: (e) => { e.helper('fence'); },
  serialize: (e) => { e.helper('fence'); },
  clflush: (e) => { e.load('u8', e.address(0)); },
  setac: (e) => { e.helper('setac', e.i32(e.variant)); },
  sysret: (e) => { e.helper('sysret', e.i32(e.variant)); },
  sysexit: (e) => { e.helper('sysexit', e.i32(e.variant)); },
  int: (e) => { e.helper('int', e.variant ? e.i32(e.variant) : e.read(0), e.i32(e.variant)); },
  into: (e) => {
    e.when(e.condition(0), () => { e.helper('int', e.i32(4), e.i32(4)); });
  },
  iret: (e) => { e.helper('iret', e.i32(e.size)); },
  retf: (e) => { e.helper('retf', e.i32(e.size), e.operands.length > 0 ? e.zeroExtend(2, e.read(0)) : e.i32(0)); },
  callfar: (e) => { e.helper('callfar', e.i32(e.size), ...farPointer(e)); },
  jmpfar: (e) => { e.helper('jmpfar', e.i32(e.size), ...farPointer(e)); },
  lfp: (e) => {
    const address = e.address(1);
    const offset = e.load(e.size === 8 ? 'u64' : e.size === 4 ? 'u32' : 'u16', address);
    const selector = e.load('u16', e.add(address, e.i64(e.size)));
    e.helper('loadsegment', e.i32(e.variant), selector);
    e.write(0, offset);
  },
  pushseg: (e) => { e.push(e.size, e.truncate(e.size, e.helper('selector', e.read(0)))); },
  popseg: (e) => {
    const { value, commit } = e.pop(e.size);
    e.helper('loadsegment', e.read(0), e.zeroExtend(2, e.truncate(2, e.zeroExtend(e.size, value))));
    commit();
  },
  movfromseg: (e) => {
    const selector = e.helper('selector', e.read(1));
    // A memory destination takes 16 bits whatever the operand size.
    if (e.operands[0]?.kind === 'memory') e.store('u16', e.address(0), e.wrap(selector));
    else e.write(0, e.truncate(e.size, selector));
  },
  movtoseg: (e) => { e.helper('loadsegment', e.read(0), e.read(1)); },
  in: (e) => { e.helper('in', e.i32(e.operands[0]?.size === 8 ? 4 : (e.operands[0]?.size ?? 1)), e.zeroExtend(2, e.read(1))); },
  out: (e) => { e.helper('out', e.i32(e.operands[1]?.size === 8 ? 4 : (e.operands[1]?.size ?? 1)), e.zeroExtend(2, e.read(0))); },
  storesys: (e) => {
    const value = e.helper('storesys', e.i32(e.variant));
    if (e.operands[0]?.kind === 'memory') e.store('u16', e.address(0), e.wrap(value));
    else e.write(0, e.truncate(e.size, value));
  },
  lldt: (e) => { supervisorOnly(e); e.helper('lldt', e.read(0)); },
  ltr: (e) => { supervisorOnly(e); e.helper('ltr', e.read(0)); },
  verify: (e) => { e.flagsChange(0x40, e.wrap(e.helper('verify', e.read(0), e.i32(e.variant)))); },
  lar: (e) => {
    const found = e.helper('lar', e.read(1), e.i32(e.variant));
    const valid = e.wrap(e.shrU(found, e.i64(32)));
    e.when(valid, () => { e.write(0, e.truncate(e.size, e.zeroExtend(4, e.wrap(found)))); });
    e.flagsChange(0x40, e.shl(valid, e.i32(6)));
  },
  arpl: (e) => {
    const old = e.read(0);
    const want = e.and(e.read(1), e.i32(3));
    const adjust = e.ltU(e.and(old, e.i32(3)), want);
    e.helper('protectedonly');
    e.write(0, e.select(adjust, e.or(e.and(old, e.i32(0xfffc)), want), old));
    e.flagsChange(0x40, e.shl(adjust, e.i32(6)));
  },
  sgdt: (e) => { e.helper('sgdt', e.address(0), e.i32(e.variant)); },
  lgdt: (e) => { e.helper('lgdt', e.address(0), e.i32(e.variant), e.i32(e.size)); },
  lmsw: (e) => { supervisorOnly(e); e.helper('lmsw', e.read(0)); },
  invlpg: (e) => { e.helper('invlpg', e.address(0)); },
  invpcid: (e) => { e.helper('invpcid', e.read(0), e.address(1)); },
  movfromcr: (e) => { e.write(0, e.truncate(e.operands[0]?.size === 8 ? 8 : 4, e.helper('readcr', e.read(1)))); },
  movtocr: (e) => { e.helper('writecr', e.read(0), e.read(1)); },
  movfromdr: (e) => { e.write(0, e.truncate(e.operands[0]?.size === 8 ? 8 : 4, e.helper('readdr', e.read(1)))); },
  movtodr: (e) => { e.helper('writedr', e.read(0), e.read(1)); },
  rdbase: (e) => {
    const size = e.operands[0]?.size === 8 ? 8 : 4;
    e.write(0, e.truncate(size, e.helper('rdbase', e.i32(e.variant))));
  },
  wrbase: (e) => { e.helper('wrbase', e.i32(e.variant), e.read(0)); },
}; // prettier-ignore

/** Offset and selector of a far transfer, from memory or from the instruction. */
function farPointer<V>(e: Algebra<V>): V[] {
  if (e.operands[0]?.kind === 'far') return [e.read(0), e.segment()];
  const address = e.address(0);
  const offset = e.load(e.size === 8 ? 'u64' : e.size === 4 ? 'u32' : 'u16', address);
  return [offset, e.load('u16', e.add(address, e.i64(e.size)))];
}
