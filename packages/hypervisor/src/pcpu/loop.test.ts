import { ExitReason } from '@xenhost/cpu';
import type { Engine, Exit } from '@xenhost/cpu';
import { Shutdown } from '@xenhost/xen-abi';
import type { Pv } from '../pv/api.ts';
import { pcpuViews } from '../sched/runqueue.ts';
import { DomainFlag, HeaderLayout, PcpuRequest, VcpuFlag } from '../state/records.ts';
import { MS, TestHost, vcpuName } from '../test-host.test-kit.ts';
import { PcpuLoop } from './loop.ts';

/** A pCPU whose engine does what a script says: one function for each run, giving the exit. */
function setup() {
  const host = new TestHost();
  const trace: string[] = [];
  const script: (() => ExitReason)[] = [];
  const stop = (): void => {
    host.requests.post(0, PcpuRequest.stop);
  };
  const engine = {
    exit: {},
    load: (_: Uint8Array, _owner: number, keep: boolean) => trace.push(keep ? 'load' : 'load afresh'),
    save: () => trace.push('save'),
    flushAllTranslations: () => trace.push('flush all'),
    readVirtual: (address: bigint) => ({ address, errorCode: 0 }),
    dropMapping: () => undefined,
    invalidateCode: (frame: number) => trace.push(`drop ${frame}`),
    run: () => {
      for (;;) {
        const step = script.shift();
        if (!step) {
          stop();
          return ExitReason.budget;
        }
        const reason = step();
        const answer =
          reason === ExitReason.syscall ? (engine.onExit?.({ reason, vector: 0 } as Exit) ?? 'refuse') : 'refuse';
        if (answer !== 'resume') return answer === 'refuse' ? reason : answer;
      }
    },
  } as unknown as Engine;
  const pv: Pick<
    Pv,
    'beforeEntry' | 'switchedIn' | 'switchingOut' | 'handleExit' | 'fastExit' | 'isBrief' | 'hasPending'
  > = {
    beforeEntry: (vcpu) => {
      trace.push(`enter ${vcpuName(vcpu)}`);
      return 'resume';
    },
    fastExit: () => false,
    isBrief: () => false,
    hasPending: () => false,
    switchedIn: () => 'resume',
    switchingOut: () => undefined,
    handleExit: (vcpu) => {
      trace.push(`exit ${vcpuName(vcpu)}`);
      return 'resume';
    },
  };
  const bugs: string[] = [];
  const core = { ...host.core, engine };
  const loop = new PcpuLoop(
    { pcpu: 0 },
    {
      core,
      engine,
      pcpus: pcpuViews(core),
      table: host.table,
      scheduler: host.scheduler,
      timers: host.timers,
      requests: host.requests,
      lifecycle: host.lifecycle,
      pv: pv as Pv,
      traceFilling: () => trace.push('trace filling'),
      reportBug: (error) => bugs.push(String(error)),
      resting: () => {
        trace.push('rests');
        stop();
      },
    },
  );
  return { host, loop, trace, script, pv, bugs, stop, engine };
}

test('runs a vCPU, handles its exits, saves it when told to stop', () => {
  const { host, loop, trace, script } = setup();
  host.domain();
  script.push(
    () => ExitReason.syscall,
    () => ExitReason.budget,
  );
  while (loop.turn(false) !== 'stop');
  expect(trace).toEqual(['load afresh', 'enter d1v0', 'exit d1v0', 'enter d1v0', 'save']);
});

test('what blocks is saved; when it wakes on an unused engine nothing is loaded again', () => {
  const { host, loop, trace, script, pv } = setup();
  const vcpu = host.vcpu(host.domain());
  pv.handleExit = () => {
    vcpu.v.flags |= VcpuFlag.blocked;
    return 'resume';
  };
  script.push(() => ExitReason.syscall);
  loop.turn(false);
  expect(loop.turn(false)).toBe('idle');
  expect(vcpu.v.isRunning).toBe(0);
  host.scheduler.kick(vcpu);
  while (loop.turn(false) !== 'stop');
  expect(trace).toEqual(['load afresh', 'enter d1v0', 'save', 'enter d1v0', 'save']);
});

test('a pCPU with nothing to do and no timer rests, and what it is asked for meanwhile ends its sleep', () => {
  const { loop, trace } = setup();
  expect(loop.turn(true)).toBe('idle');
  expect(trace).toEqual(['rests']);
  expect(loop.turn(true)).toBe('stop');
});

test('an engine that fails takes its guest with it, not the host', () => {
  const { host, loop, script, bugs } = setup();
  const a = host.domain();
  const b = host.domain();
  script.push(() => {
    throw new RangeError('stack');
  });
  loop.turn(false);
  expect(a.v.shutdownCode).toBe(Shutdown.crash);
  expect(bugs).toEqual(['RangeError: stack']);
  while (loop.turn(false) !== 'stop');
  expect(b.v.flags & DomainFlag.shutdown).toBe(0);
});

test('registers that another pCPU has loaded since are neither saved nor used', () => {
  const { host, loop, trace, script, pv } = setup();
  const a = host.vcpu(host.domain());
  pv.handleExit = () => {
    a.v.flags |= VcpuFlag.blocked;
    return 'resume';
  };
  script.push(() => ExitReason.syscall);
  loop.turn(false);
  loop.turn(false);
  // It runs on pCPU 1 now.
  a.v.loadedOn = 2;
  a.v.isRunning = 1;
  host.domain();
  while (loop.turn(false) !== 'stop');
  expect(trace.slice(3)).toEqual(['load afresh', 'enter d2v0', 'save']);
  expect(a.v.isRunning).toBe(1);
});

test('two domains switch registers at the end of a slice', () => {
  const { host, loop, trace, script } = setup();
  host.domain();
  host.domain();
  script.push(() => (host.clock.advance(31n * MS), ExitReason.budget));
  while (loop.turn(false) !== 'stop');
  expect(trace).toEqual(['load afresh', 'enter d1v0', 'save', 'load afresh', 'enter d2v0', 'save']);
});

test('a vCPU that comes back keeps its translations unless they were flushed or it ran elsewhere', () => {
  const { host, loop, trace, script } = setup();
  const a = host.vcpu(host.domain());
  host.domain();
  const switchOver = (): ExitReason => (host.clock.advance(31n * MS), ExitReason.budget);
  const loads = (): string[] => trace.splice(0).filter((line) => line.startsWith('load'));
  const untilLoaded = (): string[] => {
    for (;;) {
      script.push(switchOver);
      loop.turn(false);
      const loaded = loads();
      if (loaded.length > 0) return loaded;
    }
  };
  expect([untilLoaded(), untilLoaded(), untilLoaded(), untilLoaded()].flat()).toEqual([
    'load afresh',
    'load afresh',
    'load',
    'load',
  ]);
  host.requests.leafChanged(a.domid, 3, 77);
  host.requests.flushVcpus(host.table.domainOf(a), 1, true);
  expect(untilLoaded()).toEqual(['load afresh']);
  expect(untilLoaded()).toEqual(['load']);
  a.v.translationsOn = 2;
  expect(untilLoaded()).toEqual(['load afresh']);
});

describe('exits that need no lock', () => {
  /** Exits are fast ones as long as `isFast` says so; tells what the loop did. */
  function fast(isFast: () => boolean) {
    const machine = setup();
    const { host, trace, script, pv } = machine;
    host.domain();
    let held = false;
    pv.fastExit = () => {
      const free = Atomics.load(host.core.memory.i32, lockWord(host)) === 0;
      held ||= !free;
      trace.push('fast');
      return isFast();
    };
    return { ...machine, script, wasHeld: () => held };
  }
  const lockWord = (host: TestHost): number => (host.core.map.header * 4096 + HeaderLayout.offsets.lock) >>> 2;

  test('are dealt with and guest code goes on', () => {
    let left = 3;
    const { loop, trace, script, wasHeld } = fast(() => left-- > 0);
    for (let i = 0; i < 4; i++) script.push(() => ExitReason.syscall);
    while (loop.turn(false) !== 'stop');
    expect(trace.filter((line) => line === 'fast' || line.startsWith('e'))).toEqual([
      'enter d1v0', 'fast', 'fast', 'fast', 'fast', 'exit d1v0', 'enter d1v0',
    ]); // prettier-ignore
    expect(wasHeld()).toBe(false);
  });

  test('end a run when its time is used up, when something is asked, when an event waits', () => {
    const used = fast(() => true);
    for (let i = 0; i < 40; i++) used.script.push(() => (used.host.clock.advance(MS), ExitReason.syscall));
    while (used.loop.turn(false) !== 'stop');
    expect(used.trace.filter((line) => line === 'fast')).toHaveLength(40);
    expect(used.trace.filter((line) => line.startsWith('enter'))).toHaveLength(2);

    const asked = fast(() => true);
    asked.script.push(() => (asked.host.requests.post(0, PcpuRequest.flushTlbGlobal), ExitReason.syscall));
    while (asked.loop.turn(false) !== 'stop');
    expect(asked.trace).toEqual(['load afresh', 'enter d1v0', 'fast', 'flush all', 'enter d1v0', 'save']);

    const waiting = fast(() => true);
    waiting.pv.hasPending = () => true;
    waiting.script.push(() => ExitReason.syscall);
    while (waiting.loop.turn(false) !== 'stop');
    expect(waiting.trace.filter((line) => line.startsWith('enter'))).toHaveLength(2);
  });
});

describe('exits that are dealt with in the middle of a run, with the lock', () => {
  function brief() {
    const machine = setup();
    const { host, trace, pv, script } = machine;
    const domain = host.domain();
    pv.isBrief = () => true;
    const { i32 } = host.core.memory;
    const lock = (host.core.map.header * 4096 + HeaderLayout.offsets.lock) >>> 2;
    const inGuest = host.requests.word(0, 'inGuest');
    pv.handleExit = (vcpu) => {
      trace.push(`exit ${vcpuName(vcpu)}: lock ${i32[lock]}, in guest ${i32[inGuest]}`);
      return 'resume';
    };
    const around = (): ExitReason => {
      trace.push(`around: lock ${i32[lock]}, in guest ${i32[inGuest]}`);
      return ExitReason.syscall;
    };
    const run = (): string[] => {
      while (machine.loop.turn(false) !== 'stop');
      return trace.filter((line) => /^(enter|exit|around)/.test(line));
    };
    script.push(around, around);
    return { ...machine, domain, run, i32 };
  }
  const AROUND = 'around: lock 0, in guest 1';
  const EXIT = 'exit d1v0: lock 1, in guest 0';

  test('do not end it', () => {
    expect(brief().run()).toEqual(['enter d1v0', AROUND, EXIT, AROUND, EXIT]);
  });

  test('end it when the control plane wants the lock, and are dealt with after it', () => {
    const { run, pv, host, i32 } = brief();
    const waiting = (host.core.map.header * 4096 + HeaderLayout.offsets.controlWaiting) >>> 2;
    pv.isBrief = () => {
      i32[waiting] = 1;
      return true;
    };
    expect(run()).toEqual(['enter d1v0', AROUND, EXIT, 'enter d1v0', AROUND, EXIT, 'enter d1v0']);
  });

  test('end it when the vCPU may not run on, or it is time to look at timers and the scheduler', () => {
    const paused = brief();
    paused.pv.handleExit = () => ((paused.domain.v.pauseCount = 1), 'resume');
    expect(paused.loop.turn(false)).toBe('ran');
    expect(paused.trace.filter((line) => line.startsWith('around'))).toHaveLength(1);
    expect(paused.loop.turn(false)).toBe('idle');

    const late = brief();
    late.pv.handleExit = () => (late.host.clock.advance(11n * MS), 'resume');
    expect(late.run()).toEqual(['enter d1v0', AROUND, 'enter d1v0', AROUND, 'enter d1v0']);
  });

  test('a bug of ours in them costs the domain its life, not the run', () => {
    const { loop, trace, pv, domain, bugs } = brief();
    pv.handleExit = () => {
      throw new Error('oops');
    };
    while (loop.turn(false) === 'ran');
    expect(trace.filter((line) => line.startsWith('around'))).toEqual([AROUND]);
    expect([domain.v.shutdownCode, bugs]).toEqual([Shutdown.crash, ['Error: oops']]);
  });
});

test('serves requests before it enters again', () => {
  const { host, loop, trace, script } = setup();
  host.domain();
  script.push(() => (host.requests.post(0, PcpuRequest.flushTlbGlobal), ExitReason.budget));
  while (loop.turn(false) !== 'stop');
  expect(trace).toEqual(['load afresh', 'enter d1v0', 'flush all', 'enter d1v0', 'save']);
});

test('a shutdown is complete when the vCPU has left', () => {
  const { host, loop, script, pv } = setup();
  host.lifecycle.createDom0();
  const domain = host.domain();
  pv.handleExit = () => {
    host.lifecycle.shutdown(domain, Shutdown.poweroff);
    return 'resume';
  };
  script.push(() => ExitReason.syscall);
  loop.turn(false);
  expect(domain.v.flags & DomainFlag.shutdown).toBe(0);
  loop.turn(false);
  expect(domain.v.flags & DomainFlag.shutdown).toBe(DomainFlag.shutdown);
  expect(host.raised).toEqual(['d0 global 3']);
});

test('an exit that a PV guest cannot cause, or a bug of ours, costs one domain its life', () => {
  const { host, loop, script, pv, bugs } = setup();
  const a = host.domain();
  const b = host.domain();
  pv.handleExit = () => {
    throw new Error('oops');
  };
  script.push(
    () => ExitReason.tripleFault,
    () => ExitReason.exception,
  );
  while (loop.turn(false) === 'ran');
  expect([a.v.shutdownCode, b.v.shutdownCode]).toEqual([Shutdown.crash, Shutdown.crash]);
  expect(bugs).toEqual(['Error: oops']);
});
