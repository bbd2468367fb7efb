/** Compiled code against the interpreter: the same end of the same programs, and nothing runs that was written over. */
import type { EngineHost, JitMode, SharedRegions } from '../engine/api.ts';
import { ExitReason } from '../engine/exit-reason.ts';
import { CODE, DATA, PAGE, PTE, STACK, TestMachine, UNMAPPED } from '../interpreter/machine.fixture.ts';

const BUDGETS = [3, 50, 100_000];

interface End {
  reason: ExitReason;
  vector: number;
  rip: bigint;
  rflags: bigint;
  gprs: bigint[];
  data: string;
}

function machine(jit: JitMode): TestMachine {
  return new TestMachine('monitor', {}, jit);
}

/** Runs to something else than the end of the budget. */
function finish(m: TestMachine, budget: number): ExitReason {
  for (let runs = 0; runs < 100_000; runs++) {
    const reason = m.engine.run(budget);
    if (reason !== ExitReason.budget) return reason;
  }
  throw new Error('the program does not end');
}
function endOf(m: TestMachine, budget: number): End {
  const reason = finish(m, budget);
  const { state, exit } = m.engine;
  const gprs = Array.from({ length: 16 }, (_, n) => state.gpr(n));
  const data = Buffer.from(m.bytes.subarray(DATA, DATA + 256)).toString('hex');
  return { reason, vector: exit.vector, rip: state.rip, rflags: state.rflags, gprs, data };
}

const programs: Record<string, string> = {
  'a loop with memory and a call': `mov ecx, 3000\nmov rbx, ${DATA}\ntop: add rax, rcx\nmov [rbx], rax\nmov rdx, [rbx]\nimul rdx, rdx\nxor rax, rdx\ncall fun\nsub ecx, 1\njnz top\nsyscall\nfun: push rax\nadd rax, 7\npop rdi\nret`,
  recursion: `mov edi, 12\ncall fib\nsyscall\nfib: cmp edi, 1\njbe small\npush rbx\npush rdi\nsub edi, 1\ncall fib\nmov rbx, rax\npop rdi\nsub edi, 2\ncall fib\nadd rax, rbx\npop rbx\nret\nsmall: mov eax, edi\nret`,
  'flags over blocks and memory accesses': `mov ecx, 500\nmov rbx, ${DATA}\ntop: cmp ecx, 250\nmov rdx, [rbx]\nadc rdx, 3\nmov [rbx], rdx\nsetc al\nadd [rbx+8], al\ninc r8\njo out\ndec ecx\nlea rbx, [rbx+0]\njnz top\nout: pushfq\npop r9\nsyscall`,
  'partial registers and shifts': `mov ecx, 700\nmov rax, 0x123456789abcdef0\ntop: mov ah, cl\nrol ax, 3\nshl r9, cl\nadd dl, ah\nsar r10, 1\nxor r10, rax\nshr rax, 5\nsbb r11, rdx\nbt r11, 7\nrcl r12, 1\nsub ecx, 1\njnz top\nsyscall`,
  'a jump table and strings': `mov ecx, 400\ntop: mov eax, ecx\nand eax, 1\nlea rdx, [rip+even]\nlea rsi, [rip+odd]\ntest eax, eax\ncmovnz rdx, rsi\njmp rdx\neven: add r8, 3\njmp next\nodd: sub r8, 1\npush rcx\nmov rdi, ${DATA}\nmov ecx, 5\nmov al, 7\nrep stosb\npop rcx\nnext: sub ecx, 1\njnz top\nsyscall`,
  'a fault in a loop': `mov ecx, 100\nmov rbx, ${UNMAPPED - 40 * 8}\ntop: mov [rbx], rcx\nadd rbx, 8\nsub ecx, 1\njnz top\nsyscall`,
  'a division by zero in a loop': `mov ecx, 60\ntop: mov eax, 1000\nxor edx, edx\ndiv ecx\nadd r8, rax\nsub ecx, 1\njmp top`,
};

describe('compiled code', () => {
  for (const [name, source] of Object.entries(programs))
    for (const budget of BUDGETS)
      it(`does what the interpreter does: ${name}, in runs of ${budget}`, () => {
        const ends = (['off', 'force'] as const).map((jit) => {
          const m = machine(jit);
          m.code(source);
          m.engine.state.rip = BigInt(CODE);
          const end = endOf(m, budget);
          if (jit === 'force') expect(m.engine.counters.regionsCompiled).toBeGreaterThan(0);
          return end;
        });
        expect(ends[1]).toEqual(ends[0]);
      });

  it('is forgotten when it writes over itself', () => {
    const m = machine('force');
    const symbols = m.code(
      `mov ecx, 100\ntop: mov eax, 1\nadd r8, rax\ncmp ecx, 50\njnz skip\nmov byte [rip+top+1], 5\nskip: sub ecx, 1\njnz top\nsyscall`,
    );
    expect(symbols.has('top')).toBe(true);
    m.engine.state.rip = BigInt(CODE);
    expect(finish(m, 10_000)).toBe(ExitReason.syscall);
    // 51 times one (the write is in the turn of 50), 49 times five.
    expect(m.engine.state.gpr(8)).toBe(51n + 49n * 5n);
    expect(m.engine.counters.regionsInvalidated).toBeGreaterThan(0);
  });

  it('is forgotten when another writes over it', () => {
    const m = machine('force');
    const source = (n: number): string => `mov ecx, 10\ntop: add r8, ${n}\nsub ecx, 1\njnz top\nsyscall`;
    for (const [n, sum] of [[1, 10n], [2, 30n], [3, 60n]] as const) {
      m.code(source(n));
      m.engine.state.rip = BigInt(CODE);
      expect(finish(m, 1000)).toBe(ExitReason.syscall);
      expect(m.engine.state.gpr(8)).toBe(sum);
    }
    expect(m.engine.counters.regionsLive).toBeLessThan(m.engine.counters.regionsCompiled);
  }); // prettier-ignore

  it('does not follow into a page that is mapped elsewhere now', () => {
    const m = machine('force');
    const f = CODE + PAGE;
    m.code('add r8, 1\nret', f);
    m.code('add r8, 100\nret', f + PAGE);
    m.code(`mov ecx, 20\ntop: call ${f}\nsub ecx, 1\njnz top\nsyscall`);
    const go = (): void => {
      m.engine.state.rip = BigInt(CODE);
      m.engine.state.rsp = BigInt(STACK);
      expect(finish(m, 1000)).toBe(ExitReason.syscall);
    };
    go();
    expect(m.engine.state.gpr(8)).toBe(20n);
    m.map(f, (f + PAGE) / PAGE, PTE.present | PTE.user);
    go();
    expect(m.engine.state.gpr(8)).toBe(2020n);
  });

  it('runs at every linear address that its frame has', () => {
    const m = machine('force');
    const other = 0x50_0000;
    m.code('lea rax, [rip+here]\nhere: mov ecx, 5\ntop: sub ecx, 1\njnz top\nsyscall');
    for (const base of [CODE, other, CODE]) {
      if (base === other) m.map(other, CODE / PAGE, PTE.present | PTE.user);
      m.engine.state.rip = BigInt(base);
      expect(finish(m, 1000)).toBe(ExitReason.syscall);
      expect(m.engine.state.rax - BigInt(base)).toBe(m.engine.state.rip - BigInt(base) - 12n);
    }
  });

  it('is made only of what is hot', () => {
    const m = machine('on');
    m.code('mov ecx, 100\ntop: sub ecx, 1\njnz top\nsyscall');
    m.engine.state.rip = BigInt(CODE);
    finish(m, 100_000);
    expect(m.engine.counters.regionsCompiled).toBe(0);
    m.code('mov ecx, 100000\ntop: sub ecx, 1\njnz top\nsyscall');
    m.engine.state.rip = BigInt(CODE);
    finish(m, 1000);
    expect(m.engine.counters.regionsCompiled).toBeGreaterThan(0);
    expect(m.engine.counters.compiledSlices).toBeGreaterThan(0);
    expect(m.engine.counters.regionEntries).toBeGreaterThan(0);
  });

  it('is used by another engine over the same code, and not over other code', () => {
    const shared: SharedRegions[] = [];
    const source = (n: number): string => `mov ecx, 50\ntop: add r8, ${n}\ncall ${CODE + PAGE}\nsub ecx, 1\njnz top\nsyscall`;
    const start = (n: number, host: Partial<EngineHost>): TestMachine => {
      const m = new TestMachine('monitor', host, 'force');
      m.code('add r8, 2\nret', CODE + PAGE);
      m.code(source(n));
      m.engine.state.rip = BigInt(CODE);
      expect(finish(m, 100)).toBe(ExitReason.syscall);
      expect(m.engine.state.gpr(8)).toBe(BigInt(50 * (n + 2)));
      return m;
    };
    start(1, { shareRegions: (one) => { shared.push(one); } });
    expect(shared.length).toBeGreaterThan(0);
    const taker = (): Partial<EngineHost> => {
      const rest = [...shared];
      return { takeRegions: () => rest.shift() };
    };
    const { counters } = start(1, taker()).engine;
    expect(counters.regionsReused).toBeGreaterThan(0);
    expect(counters.regionsCompiled).toBeLessThan(shared.length);
    const other = start(3, taker()).engine;
    expect(other.counters.regionsCompiled).toBeGreaterThan(0);
  }); // prettier-ignore
});
