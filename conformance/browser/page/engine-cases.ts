/** The engine alone in a worker of a browser: programs with known results, and a fault in the middle of a hot loop. */
import { ExitReason } from '@xenhost/cpu';
import { DATA, TestMachine, UNMAPPED } from '../../../packages/cpu/src/interpreter/machine.fixture.ts';
import { programs } from './programs.ts';
import { expectEqual, runCase, scope } from './scope.ts';
import type { CasesMessage, CasesStart } from './scope.ts';

const PAGE_FAULT = 14;
const BUDGET = 20_000;
const MAX_SLICES = 10_000;

function runToExit(machine: TestMachine, source: string): ExitReason {
  let reason = machine.run(source, BUDGET);
  for (let slice = 0; reason === ExitReason.budget; slice++) {
    if (slice > MAX_SLICES) throw new Error('the program does not end');
    reason = machine.engine.run(BUDGET);
  }
  return reason;
}

scope.onmessage = ({ data }) => {
  const { jit } = data as CasesStart;
  void (async () => {
    for (const { name, source, result } of programs)
      await runCase(`jit ${jit}: ${name}`, () => {
        const machine = new TestMachine('monitor', {}, jit);
        expectEqual('exit', runToExit(machine, source.replaceAll('DATA', String(DATA))), ExitReason.syscall);
        expectEqual('result', machine.engine.state.rax, result);
        return `0x${result.toString(16)}`;
      });
    await runCase(`jit ${jit}: a page fault in a hot loop is precise`, () => {
      const machine = new TestMachine('monitor', {}, jit);
      const start = UNMAPPED - 4096 * 8;
      const reason = runToExit(
        machine,
        `mov rsi, ${start}\nxor ecx, ecx\nagain: inc ecx\nadd rax, [rsi]\nadd rsi, 8\njmp again`,
      );
      const { exit, state } = machine.engine;
      expectEqual('exit', reason, ExitReason.exception);
      expectEqual('vector', exit.vector, PAGE_FAULT);
      expectEqual('address', exit.address, BigInt(UNMAPPED));
      expectEqual('rounds', state.rcx, BigInt((UNMAPPED - start) / 8 + 1));
      expectEqual('pointer', state.rsi, BigInt(UNMAPPED));
      return '';
    });
    const done: CasesMessage = { kind: 'done' };
    scope.postMessage(done);
  })();
};
