/** What a handler is made of and where its code goes: values, shapes, frames, temporaries. */
import type { OperandInfo, ValueType, Width } from '../semantics/algebra.ts';
import type { FunctionBuilder, FunctionRef } from '../wasm/builder.ts';

export const MACHINE = 1;
/** The number of a helper's arguments stands above its id. */
export const HELPER_ARITY_SHIFT = 16;

export interface Value {
  readonly type: ValueType;
  /** -1 for constants. */
  readonly local: number;
  readonly constant: bigint;
  readonly bytes?: Uint8Array;
}

/** Functions of the slow-path module and of the host that handlers call. */
export interface SlowImports {
  load: Readonly<Record<number, FunctionRef>>;
  store: Readonly<Record<number, FunctionRef>>;
  /** (address, size, record) -> machine address, or -1: value in `bounce`, write it by `store`. */
  rmw: FunctionRef;
  /** (kind, result, a, b) -> the six flags. */
  flags: FunctionRef;
  /** (kind, result, a, b) -> 0 or 1. */
  carry: FunctionRef;
  /** (code, kind, result, a, b) -> 0 or 1. */
  condition: FunctionRef;
  /** (id, record) -> SIGNAL. */
  helper: FunctionRef;
}

export type CcField = 'ccKind' | 'ccResult' | 'ccA' | 'ccB';

/** Where a handler's code stands. */
export interface Frame {
  readonly f: FunctionBuilder;
  /** Local with the record's address. */
  readonly record: number;
  pushView(): void;
  getCc(field: CcField): void;
  /** Pops the value into the field. */
  setCc(field: CcField): void;
  /** Ends the handler: a fault or the like stands in the state. */
  fault(): void;
  /** Ends the handler at another RIP (i64 local). */
  jump(target: Value): void;
  /** Ends the handler at the record's branch target. */
  taken(): void;
  again(): void;
  next(): void;
  /** With the result of a helper on the stack: ends the handler unless it is 0. */
  helperResult(): void;
}

/** What a handler is made for. */
export interface HandlerShape {
  readonly semantics: string;
  readonly size: Width;
  readonly mode: 64 | 32;
  readonly variant: number;
  readonly operands: readonly (OperandInfo & {
    readonly constant?: bigint;
    readonly indexed?: boolean;
    readonly vector?: boolean;
  })[];
  readonly locked: boolean;
  readonly addressSize: 2 | 4 | 8;
  readonly repeat: 'none' | 'rep' | 'repne';
}

/** Local variables by type, reused from handler to handler. */
export class TemporaryPool {
  private readonly f: FunctionBuilder;
  private readonly locals: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  private readonly used: Record<ValueType, number> = { i32: 0, i64: 0, f32: 0, f64: 0, v128: 0 };
  constructor(f: FunctionBuilder) {
    this.f = f;
  }
  take(type: ValueType): number {
    const n = this.used[type]++;
    return (this.locals[type][n] ??= this.f.local(type));
  }
  release(): void {
    const { used } = this;
    used.i32 = used.i64 = used.f32 = used.f64 = used.v128 = 0;
  }
}
