import { Errno } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import { Hypercall } from '@xenhost/xen-abi';
import { TestHost } from '../test-host.test-kit.ts';
import { HypercallDispatch } from './dispatch.ts';
import { touchesXen } from './guest-memory.ts';
import type { HypercallCall, HypercallHandler } from './types.ts';

const BASE = 0x10000n;

/** Registers and 64 KiB of guest memory at BASE: what the dispatch sees of an engine. */
function fakeEngine() {
  const bytes = new Uint8Array(0x10000);
  const at = (address: bigint, length: number): number | undefined =>
    address >= BASE && address + BigInt(length) <= BASE + 0x10000n ? Number(address - BASE) : undefined;
  const state = { rax: 0n, rdi: 0n, rsi: 0n, rdx: 0n, r10: 0n, r8: 0n, r9: 0n, rip: 0x1002n };
  const engine = {
    state,
    hostAddress: () => -1,
    readVirtual(address: bigint, into: Uint8Array) {
      const offset = at(address, into.length);
      if (offset === undefined) return { address, errorCode: 4 };
      into.set(bytes.subarray(offset, offset + into.length));
      return undefined;
    },
    writeVirtual(address: bigint, from: Uint8Array) {
      const offset = at(address, from.length);
      if (offset === undefined) return { address, errorCode: 6 };
      bytes.set(from, offset);
      return undefined;
    },
  };
  return { engine: engine as unknown as Engine, state, words: new BigUint64Array(bytes.buffer) };
}

function setup(handlers: Record<string, HypercallHandler>, hasOtherWork = () => false) {
  const host = new TestHost();
  const vcpu = host.vcpu(host.domain());
  const dispatch = new HypercallDispatch(host.core, { table: host.table, handlers, hasOtherWork });
  const guest = fakeEngine();
  const run = (op: number, args: bigint[] = []): bigint => {
    guest.state.rax = BigInt(op);
    Object.assign(guest.state, { rdi: args[0] ?? 0n, rsi: args[1] ?? 0n, rdx: args[2] ?? 0n });
    dispatch.fromPv64(vcpu, guest.engine);
    return BigInt.asIntN(64, guest.state.rax);
  };
  return { ...guest, host, dispatch, run };
}

test('arguments go in, the result comes out', () => {
  const { run, state } = setup({ xen_version: (call) => (call.args[0] ?? 0n) * 2n + (call.args[1] ?? 0n) });
  expect(run(Hypercall.xen_version, [20n, 2n])).toBe(42n);
  expect(state.rip).toBe(0x1002n);
});

test.each([
  ['an unknown number', 9999],
  ['one without a handler', Hypercall.hvm_op],
  ['a number beyond 32 bits', 2 ** 40 + Hypercall.xen_version],
])('%s is -ENOSYS', (_name, op) => {
  const { run } = setup({ xen_version: () => 0 });
  expect(run(op)).toBe(BigInt(-Errno.ENOSYS));
});

test('a guest may not use the control hypercalls', () => {
  const { run } = setup({ domctl: () => 0 });
  expect(run(Hypercall.domctl)).toBe(BigInt(-Errno.EPERM));
});

test('a continuation rewrites the arguments and steps back', () => {
  const { run, state } = setup({
    memory_op: (call) => {
      call.args[0] = 7n;
      return 'continue';
    },
  });
  run(Hypercall.memory_op, [1n, 2n]);
  expect([state.rax, state.rdi, state.rsi, state.rip]).toEqual([BigInt(Hypercall.memory_op), 7n, 2n, 0x1000n]);
});

describe('multicall', () => {
  const entries = (words: BigUint64Array, ...ops: bigint[][]): void => {
    ops.forEach(([op = 0n, ...args], i) => {
      words.set([op, 0xdeadn, ...args], i * 8);
    });
  };
  const add: HypercallHandler = (call: HypercallCall) => (call.args[0] ?? 0n) + (call.args[1] ?? 0n);

  test('runs in order and writes each result', () => {
    const { run, words } = setup({ xen_version: add });
    entries(words, [17n, 1n, 2n], [17n, 10n, 20n], [9999n]);
    expect(run(Hypercall.multicall, [BASE, 3n])).toBe(0n);
    expect([words[1], words[9], BigInt.asIntN(64, words[17] ?? 0n)]).toEqual([3n, 30n, BigInt(-Errno.ENOSYS)]);
  });

  test('goes on from an entry that is to be continued, with its new arguments', () => {
    let first = true;
    const { run, words, state } = setup({
      xen_version: (call) => {
        if (!first) return call.args[0] ?? 0n;
        first = false;
        call.args[0] = 5n;
        return 'continue';
      },
    });
    entries(words, [17n, 1n], [17n, 6n]);
    run(Hypercall.multicall, [BASE, 2n]);
    expect([state.rip, state.rdi, state.rsi]).toEqual([0x1000n, BASE, 2n]);
    state.rip = 0x1002n;
    expect(run(Hypercall.multicall, [state.rdi, state.rsi])).toBe(0n);
    expect([words[1], words[9]]).toEqual([5n, 6n]);
  });

  test('ends at iret, later entries are not run', () => {
    const ran: bigint[] = [];
    const { run, words } = setup({
      iret: () => 'noResult',
      xen_version: (call) => {
        ran.push(call.args[0] ?? 0n);
        return 0;
      },
    });
    entries(words, [17n, 1n], [23n], [17n, 2n]);
    run(Hypercall.multicall, [BASE, 3n]);
    expect(ran).toEqual([1n]);
  });

  test('makes room for others between entries', () => {
    const { run, words, state } = setup({ xen_version: add }, () => true);
    entries(words, [17n, 1n, 1n], [17n, 2n, 2n]);
    run(Hypercall.multicall, [BASE, 2n]);
    expect([state.rdi, state.rsi, words[1]]).toEqual([BASE + 64n, 1n, 2n]);
  });

  test('an unreadable entry is -EFAULT', () => {
    const { run } = setup({});
    expect(run(Hypercall.multicall, [0n, 1n])).toBe(BigInt(-Errno.EFAULT));
  });
});

test.each([
  [0xffff_7fff_ffff_fff8n, 8, false],
  [0xffff_7fff_ffff_fff8n, 9, true],
  [0xffff_8000_0000_0000n, 1, true],
  [0xffff_87ff_ffff_ffffn, 1, true],
  [0xffff_8800_0000_0000n, 1, false],
  [0xffff_ffff_ffff_fff8n, 8, false],
  [0xffff_ffff_ffff_fff8n, 9, true],
])('address %d with length %d touches Xen: %s', (address, length, expected) => {
  expect(touchesXen(address, length)).toBe(expected);
});
