/**
 * C structure layouts: declared once, they give size, field offsets and typed views over bytes.
 * Natural alignment, little-endian, as the System V ABI of the width asked for (4-byte u64 alignment on i386).
 * Not a serialiser of variable-length data.
 */

/** Bytes that views are laid over. `dv` and `u8` must cover the same buffer. */
export interface Bytes {
  readonly dv: DataView;
  readonly u8: Uint8Array;
}

export function bytesOf(u8: Uint8Array): Bytes {
  return { u8, dv: new DataView(u8.buffer, u8.byteOffset, u8.byteLength) };
}

export type Scalar = 'u8' | 'u16' | 'u32' | 'i32' | 'u64' | 'i64';
/** An array of scalars, `u8` bytes for opaque parts included. */
export interface ArrayField {
  readonly array: Scalar;
  readonly length: number;
}
export type Field = Scalar | ArrayField | Layout<Fields>;
export type Fields = Readonly<Record<string, Field>>;

export const array = (type: Scalar, length: number): ArrayField => ({ array: type, length });

/** Values by field: numbers up to 32 bits, bigint for 64; arrays and nested structs are reached by offset or `at()`. */
export type View<F extends Fields> = {
  -readonly [K in keyof F as F[K] extends Scalar ? K : never]: F[K] extends 'u64' | 'i64' ? bigint : number;
} & { readonly base: number };

const SIZE: Record<Scalar, number> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8, i64: 8 };

export interface Layout<F extends Fields> {
  readonly name: string;
  readonly size: number;
  readonly align: number;
  readonly fields: F;
  readonly offsets: { readonly [K in keyof F]: number };
  /** A view of the structure at byte `base`. Cheap: one small object, accessors on its prototype. */
  view(bytes: Bytes, base: number): View<F>;
  /** A zeroed structure of its own with a view on it. */
  create(init?: Partial<View<F>>): { readonly bytes: Uint8Array; readonly view: View<F> };
}

const isLayout = (field: Field): field is Layout<Fields> => typeof field === 'object' && 'offsets' in field;

function measure(field: Field, align64: number): { size: number; align: number } {
  if (isLayout(field)) return { size: field.size, align: field.align };
  const scalar = typeof field === 'string' ? field : field.array;
  const size = SIZE[scalar];
  return { size: typeof field === 'string' ? size : size * field.length, align: size === 8 ? align64 : size };
}

const roundUp = (n: number, to: number): number => Math.ceil(n / to) * to;

/** Declares a structure. `width` 32 gives the i386 layout (u64 aligned to 4). */
export function layout<const F extends Fields>(name: string, fields: F, width: 64 | 32 = 64): Layout<F> {
  const offsets: Record<string, number> = {};
  let end = 0;
  let align = 1;
  for (const [key, field] of Object.entries(fields)) {
    const m = measure(field, width === 64 ? 8 : 4);
    end = roundUp(end, m.align);
    offsets[key] = end;
    end += m.size;
    align = Math.max(align, m.align);
  }
  const size = roundUp(end, align);
  const View = viewClass(fields, offsets);
  const view = (bytes: Bytes, base: number): View<F> => new View(bytes.dv, base) as View<F>;
  return {
    name, size, align, fields, offsets: offsets as Layout<F>['offsets'], view,
    create(init) {
      const bytes = new Uint8Array(size);
      const v = view(bytesOf(bytes), 0);
      if (init) Object.assign(v, init);
      return { bytes, view: v };
    },
  }; // prettier-ignore
}

interface RawView {
  readonly dv: DataView;
  readonly base: number;
}

function viewClass(fields: Fields, offsets: Record<string, number>): new (dv: DataView, base: number) => object {
  class StructView implements RawView {
    readonly dv: DataView;
    readonly base: number;
    constructor(dv: DataView, base: number) {
      this.dv = dv;
      this.base = base;
    }
  }
  for (const [key, field] of Object.entries(fields)) {
    if (typeof field !== 'string') continue;
    Object.defineProperty(StructView.prototype, key, { enumerable: true, ...accessor(field, offsets[key] ?? 0) });
  }
  return StructView;
}

function accessor(type: Scalar, off: number): { get(this: RawView): unknown; set(this: RawView, v: never): void } {
  switch (type) {
    case 'u8':
      return { get() { return this.dv.getUint8(this.base + off); }, set(v: number) { this.dv.setUint8(this.base + off, v); } }; // prettier-ignore
    case 'u16':
      return { get() { return this.dv.getUint16(this.base + off, true); }, set(v: number) { this.dv.setUint16(this.base + off, v, true); } }; // prettier-ignore
    case 'u32':
      return { get() { return this.dv.getUint32(this.base + off, true); }, set(v: number) { this.dv.setUint32(this.base + off, v, true); } }; // prettier-ignore
    case 'i32':
      return { get() { return this.dv.getInt32(this.base + off, true); }, set(v: number) { this.dv.setInt32(this.base + off, v, true); } }; // prettier-ignore
    case 'u64':
      return { get() { return this.dv.getBigUint64(this.base + off, true); }, set(v: bigint) { this.dv.setBigUint64(this.base + off, v, true); } }; // prettier-ignore
    case 'i64':
      return { get() { return this.dv.getBigInt64(this.base + off, true); }, set(v: bigint) { this.dv.setBigInt64(this.base + off, v, true); } }; // prettier-ignore
  }
}
