/**
 * One region as one function `(word, budget) -> how it ended`: registers in locals, blocks in the order of their
 * addresses, forward jumps as branches out of nested blocks, jumps back as loops, everything else by block number
 * through a br_table. Facts behind the shape: docs/RATIONALE.md.
 *
 * The flags are in the lazy words at each block that may be entered by several ways and where somebody looks at them;
 * a block with one way in knows what its predecessor knew.
 */
import { OFFSET } from '../engine/state.ts';
import type { Value } from '../interpreter/emit-frame.ts';
import { CODE_TLB, CODE_TLB_ENTRIES, ENTRY, RECORD, REGION_PAGES, SIGNAL } from '../interpreter/memory-map.ts';
import { SPECIAL } from '../interpreter/handlers.ts';
import type { FunctionBuilder, Label } from '../wasm/builder.ts';
import { RegionContext } from './context.ts';
import type { RegionImports } from './context.ts';
import { RegionEmitter } from './emitter.ts';
import type { Ways } from './emitter.ts';
import { flagsSeenAfter, flowOf } from './flow.ts';
import type { Flow, Loop } from './flow.ts';
import { DEAD, GENERIC, JOINED } from './lazy.ts';
import type { FlagState } from './lazy.ts';
import type { PlacedInstruction, RegionShape } from './plan.ts';
import { emitWhole } from './traits.ts';

const PAGE = 4096;
/** A return is compared with the places behind the calls that may have led to it, unless they are more than this; else it is looked up. */
const MAX_PREDICTED_RETURNS = 8;

interface Item {
  readonly start: number;
  readonly end: number;
  readonly loop: Loop | undefined;
}
/** A sequence of blocks and loops while its code is made. */
interface Level {
  readonly start: number;
  readonly end: number;
  readonly items: readonly Item[];
  readonly labels: (Label | undefined)[];
  /** To its first block again, of a loop. */
  readonly loopLabel: Label | undefined;
  /** It begins with a jump by block number. */
  readonly dispatches: boolean;
  current: number;
}

export class RegionBuilder implements Ways {
  private readonly plan: RegionShape;
  private readonly flow: Flow;
  private readonly f: FunctionBuilder;
  private readonly context: RegionContext;
  private readonly regionType: number;
  private readonly table: number;
  private readonly levels: Level[] = [];
  private readonly flagsAtEntry: (FlagState | undefined)[] = [];
  private dispatchLabel: Label = 0;
  private enterLabel: Label = 0;
  private lookupLabel: Label = 0;
  private budgetLabel: Label = 0;
  private block = 0;

  constructor(
    plan: RegionShape,
    f: FunctionBuilder,
    module: { imports: RegionImports; regionType: number; table: number },
  ) {
    // prettier-ignore
    this.plan = plan;
    this.flow = flowOf(plan);
    this.f = f;
    this.regionType = module.regionType;
    this.table = module.table;
    this.context = new RegionContext(f, module.imports);
  }

  emit(): void {
    const { f, context } = this;
    this.enterLabel = f.loop();
    f.get(context.word).i32(ENTRY.blockMask).op('i32.and').set(context.entry);
    this.emitBase();
    const finish = f.block();
    context.bailLabel = f.block();
    this.budgetLabel = f.block();
    this.lookupLabel = f.block();
    this.dispatchLabel = f.loop();
    this.emitSequence(0, this.plan.blocks.length - 1, this.flow.loops, undefined);
    f.end().unreachable().end(); // prettier-ignore
    this.emitLookup();
    f.end().i32(SIGNAL.compiledBudget).set(context.result).br(finish);
    f.end().i32(SIGNAL.bail).set(context.result);
    f.end();
    this.emitResolve();
    f.i32(0).get(context.base).get(context.position).op('i64.extend_i32_s').op('i64.add').store64(OFFSET.rip);
    f.i32(0).get(context.budget).store32(OFFSET.budgetLeft);
    context.emitStores();
    f.get(context.result).return().end().unreachable(); // prettier-ignore
    f.prepend(() => {
      context.emitLoads();
    });
  }

  /** Linear address of the region from that of the page that it is entered in. */
  private emitBase(): void {
    const { f, plan, context } = this;
    f.i32(0).load64(OFFSET.ripBase);
    let before = 0;
    plan.blocks.forEach((block, n) => {
      const page = Math.floor(block.at / PAGE);
      if (page === before) return;
      const distance = BigInt((page - before) * PAGE);
      f.i64(distance).i64(0).get(context.entry).i32(n).op('i32.ge_u').select().op('i64.sub'); // prettier-ignore
      before = page;
    });
    f.set(context.base);
  }
  /** The lazy words of the flags. */
  private emitResolve(): void {
    const emitter = this.anEmitter();
    this.context.emitResolve((state) => {
      emitter.emitGeneric(state);
    });
  }

  // Structure --------------------------------------------------------------------------------------------------------
  private emitSequence(start: number, end: number, loops: readonly Loop[], loopLabel: Label | undefined): void {
    const { f, flow } = this;
    const items: Item[] = [];
    for (let n = start; n <= end;) {
      const loop = loops.find((l) => l.start === n);
      items.push({ start: n, end: loop ? loop.end : n, loop });
      n = (loop ? loop.end : n) + 1;
    }
    let dispatches = loopLabel === undefined;
    for (let n = start + 1; n <= end; n++) dispatches ||= flow.dispatched.has(n);
    const labels: (Label | undefined)[] = new Array<Label | undefined>(items.length).fill(undefined);
    for (let i = items.length - 1; i >= (dispatches ? 0 : 1); i--) labels[i] = f.block();
    const level: Level = { start, end, items, labels, loopLabel, dispatches, current: 0 };
    if (dispatches) {
      const byBlock: Label[] = [];
      items.forEach((item, i) => {
        for (let n = item.start; n <= item.end; n++) byBlock.push(labels[i] ?? 0);
      });
      // Its own jumps back are many, and a branch is better predicted than a jump by table.
      if (loopLabel !== undefined) f.get(this.context.entry).i32(start).op('i32.eq').brIf(byBlock[0] ?? 0); // prettier-ignore
      f.get(this.context.entry).i32(start).op('i32.sub').brTable(byBlock, byBlock[0] ?? 0); // prettier-ignore
    }
    this.levels.push(level);
    items.forEach((item, i) => {
      if (labels[i] !== undefined) f.end();
      level.current = i;
      if (item.loop) {
        const label = f.loop();
        // A loop within begins with this very block: it is a sequence of its own.
        this.emitSequence(item.start, item.end, item.loop.inner, label);
        f.end().unreachable(); // prettier-ignore
      } else this.emitBlock(item.start);
    });
    this.levels.pop();
  }

  private emitBlock(n: number): void {
    const { f, context, plan, flow } = this;
    const block = plan.blocks[n];
    if (!block) throw new Error(`no block ${n}`);
    this.block = n;
    context.flags = (flow.nrWaysIn[n] === 1 ? this.flagsAtEntry[n] : undefined) ?? (flow.needsFlags[n] ? (flow.joins[n] ? JOINED : GENERIC) : DEAD);
    context.isDead = false;
    context.checkedBlocks.clear();
    const seenAfter = flagsSeenAfter(plan, flow.needsFlags, n);
    for (const [i, one] of block.instructions.entries()) {
      context.flagsAreDead = !(seenAfter[i] ?? true);
      this.emitInstruction(one);
      if (!this.isReached()) break;
    }
    if (this.isReached()) this.to(undefined, block.next);
    f.unreachable();
  } // prettier-ignore
  private isReached(): boolean {
    return !this.context.isDead;
  }
  private emitInstruction(one: PlacedInstruction): void {
    const { context } = this;
    const emitter = new RegionEmitter(one.instruction, { at: one.at, context, ways: this });
    const last = one.at + one.instruction.length - 1;
    if (Math.floor(last / PAGE) !== Math.floor(one.at / PAGE)) this.emitPageCheck(Math.floor(last / PAGE), () => { emitter.bail(); }); // prettier-ignore
    context.leavesFlags = !one.traits.usesFlags && !one.traits.setsFlags;
    if (one.traits.bails) emitter.bail();
    else emitWhole(emitter);
    context.temporaries.release();
  }

  // Ways on ----------------------------------------------------------------------------------------------------------
  /** Does `otherwise`, which does not come back, unless the page is still mapped where it was. */
  private emitPageCheck(page: number, otherwise: () => void): void {
    const { f, context } = this;
    f.get(context.base)
      .i64(BigInt(page * PAGE))
      .op('i64.add')
      .tee(context.nextRip);
    this.pushCodeEntry();
    f.tee(context.scratch).load64(CODE_TLB).get(context.nextRip).op('i64.ne');
    f.get(context.scratch).load32(CODE_TLB + 8);
    f.get(context.word).i32(ENTRY.blockBits).op('i32.shr_u').i32(REGION_PAGES.log2).op('i32.shl');
    f.load32(REGION_PAGES.base + 4 * (this.plan.pageNumbers.get(page) ?? 0)).op('i32.ne').op('i32.or').if(); // prettier-ignore
    const { flags, isDead } = context;
    context.depth++;
    otherwise();
    context.depth--;
    context.flags = flags;
    context.isDead = isDead;
    f.end();
  }
  /** With a linear address on the stack: address of its entry in the code TLB, less that of the table. */
  private pushCodeEntry(): void {
    this.f.op('i32.wrap_i64').i32(8).op('i32.shr_u').i32((CODE_TLB_ENTRIES - 1) << 4).op('i32.and'); // prettier-ignore
    this.f.get(this.context.codeView).op('i32.add');
  }
  private emitBudget(position: number): void {
    const { f, context } = this;
    f.get(context.budget).i32(1).op('i32.sub').tee(context.budget).i32(0).op('i32.lt_s').if(); // prettier-ignore
    context.emitForm(context.flags);
    f.i32(position).set(context.position).br(this.budgetLabel).end(); // prettier-ignore
  }
  /** Something that emits code where no instruction is at hand. */
  private anEmitter(): RegionEmitter {
    const one = this.plan.blocks[this.block]?.instructions[0];
    if (!one) throw new Error('a block without instructions');
    return new RegionEmitter(one.instruction, { at: one.at, context: this.context, ways: this });
  }

  to(given: RegionEmitter | undefined, position: number): void {
    const emitter = given ?? this.anEmitter();
    const { plan, context } = this;
    const target = plan.indexOf.get(position);
    if (target === undefined) {
      this.leave(position);
      return;
    }
    const page = Math.floor(position / PAGE);
    const from = Math.floor((given ? given.at : (plan.blocks[this.block]?.instructions.at(-1)?.at ?? position)) / PAGE);
    if (page !== from) this.emitPageCheck(page, () => { this.leave(position); }); // prettier-ignore
    const isCall = given?.instruction.row.semantics === 'call';
    if (target <= this.block || isCall) this.emitBudget(position);
    this.passFlags(emitter, target);
    this.emitBranch(target);
    context.isDead = true;
  }
  /** To code outside of the region. */
  private leave(position: number): void {
    const { f, context } = this;
    context.emitForm(context.flags);
    f.get(context.base).i64(BigInt(position)).op('i64.add').set(context.nextRip).br(this.lookupLabel); // prettier-ignore
  }
  private passFlags(emitter: RegionEmitter, target: number): void {
    const { flow, context } = this;
    // A way back is found only after its target was made.
    if (flow.nrWaysIn[target] === 1 && target > this.block) this.flagsAtEntry[target] = context.flags;
    else if (flow.needsFlags[target] && flow.joins[target]) context.emitForm(context.flags);
    else if (flow.needsFlags[target]) emitter.emitGeneric(context.flags);
  }
  private emitBranch(target: number): void {
    const { f, context } = this;
    for (let i = this.levels.length - 1; i >= 0; i--) {
      const level = this.levels[i];
      if (!level || target < level.start || target > level.end) continue;
      if (target === level.start && level.loopLabel !== undefined) {
        if (level.dispatches) f.i32(target).set(context.entry);
        f.br(level.loopLabel);
        return;
      }
      const item = level.items.findIndex((one) => target >= one.start && target <= one.end);
      const label = level.labels[item];
      if (item <= level.current || label === undefined) break;
      // A loop that is entered by number reads it.
      if (level.items[item]?.loop) f.i32(target).set(context.entry);
      f.br(label);
      return;
    }
    f.i32(target).set(context.entry).br(this.dispatchLabel);
  }

  toAddress(emitter: RegionEmitter, target: Value, isReturn: boolean): void {
    const { f, context, plan } = this;
    emitter.pushValue(target);
    f.set(context.nextRip);
    const predicted = (isReturn ? plan.returnsOf.get(emitter.at) : undefined) ?? [];
    if (predicted.length <= MAX_PREDICTED_RETURNS)
      for (const position of predicted) this.emitPredicted(emitter, position);
    context.emitForm(context.flags);
    f.br(this.lookupLabel);
  }
  /** To `position` if that is where `nextRip` says. */
  private emitPredicted(emitter: RegionEmitter, position: number): void {
    const { f, context, plan } = this;
    const target = plan.indexOf.get(position);
    if (target === undefined) return;
    f.get(context.nextRip).get(context.base).i64(BigInt(position)).op('i64.add').op('i64.eq').if(); // prettier-ignore
    const { flags } = context;
    const page = Math.floor(position / PAGE);
    if (page !== Math.floor(emitter.at / PAGE)) this.emitPageCheck(page, () => { this.leave(position); }); // prettier-ignore
    this.emitBudget(position);
    this.passFlags(emitter, target);
    this.emitBranch(target);
    context.flags = flags;
    f.end();
  }

  /** To `nextRip`: here, in another region, or by the interpreter. */
  private emitLookup(): void {
    const { f, context } = this;
    const word = context.entry;
    this.emitResolve();
    const miss = f.block();
    f.get(context.budget).i32(0).op('i32.le_s').brIf(miss); // prettier-ignore
    f.get(context.nextRip);
    this.pushCodeEntry();
    f.tee(context.scratch).load64(CODE_TLB).get(context.nextRip).i64(-PAGE).op('i64.and').op('i64.ne').brIf(miss);
    f.get(context.scratch).load32(CODE_TLB + 8).get(context.nextRip).op('i32.wrap_i64'); // prettier-ignore
    f.i32(PAGE - 1).op('i32.and').i32(2).op('i32.shl').op('i32.add').load32(0).tee(context.scratch).op('i32.eqz').brIf(miss); // prettier-ignore
    f.get(context.scratch).load16(RECORD.handler).i32(SPECIAL.enter).op('i32.ne').brIf(miss);
    f.get(context.scratch).load32(RECORD.imm).set(word);
    f.get(context.budget).i32(1).op('i32.sub').set(context.budget);
    f.i32(0).get(context.nextRip).i64(-PAGE).op('i64.and').store64(OFFSET.ripBase);
    f.get(word).get(context.word).op('i32.xor').i32(ENTRY.blockBits).op('i32.shr_u').op('i32.eqz').if(); // prettier-ignore
    f.get(word).set(context.word).br(this.enterLabel).end(); // prettier-ignore
    context.emitStores();
    f.get(word).get(context.budget).get(word).i32(ENTRY.blockBits).op('i32.shr_u'); // prettier-ignore
    f.returnCallIndirect(this.regionType, this.table);
    f.end();
    f.i32(0).get(context.nextRip).store64(OFFSET.rip).i32(0).get(context.budget).store32(OFFSET.budgetLeft);
    context.emitStores();
    f.i32(SIGNAL.jump).return();
  }
}
