/**
 * One row per instruction encoding, columns as in the manuals (Intel SDM vol. 2, AMD APM vol. 3). Decoder, disassembler,
 * assembler and the interpreter's handlers all come from the rows; nothing else knows an encoding.
 *
 * The encoding column: mandatory prefix (`np`, `66`, `f3`, `f2`; none = any), `w0`/`w1` where REX.W selects, escape
 * and opcode bytes, `+r` where the low three bits are a register, then ModRM as `/r`, `/0`..`/7`, or a byte of its own
 * (`0f 01 d0`), and `m` or `r` where only the memory or the register form is this instruction. `vex` first means that a
 * VEX prefix carries escape, mandatory prefix and W; `l0`/`l1` where its L selects.
 *
 * The operand column uses the manuals' letters (Intel SDM vol. 2 appendix A.2): addressing method, then type.
 */

export type OperandMethod =
  /** ModRM.rm as register or memory. */ | 'E'
  /** ModRM.reg as general register. */ | 'G'
  /** Memory only. */ | 'M'
  /** ModRM.rm as general register only. */ | 'R'
  | 'I' | 'J' | 'A'
  /** Address of `address size` bytes in the code. */ | 'O'
  /** DS:rSI and ES:rDI; DS:rBX of XLAT. */ | 'X' | 'Y' | 'B'
  /** ModRM.reg as segment, control, debug register. */ | 'S' | 'C' | 'D'
  /** Low three opcode bits as general register. */ | 'Z'
  /** ModRM.reg as XMM, ModRM.rm as XMM or memory, ModRM.rm as XMM only. */ | 'V' | 'W' | 'U'
  /** The same for MMX. */ | 'P' | 'Q' | 'N'
  /** x87 ST(rm). */ | 'T'
  /** VEX.vvvv as XMM or YMM, the upper half of an immediate byte as the same. */ | 'H' | 'L'
  /** VEX.vvvv as general register (B in the manual, which XLAT has here). */ | 'K'
  /** The vector index of a VSIB address and its scale, beside the M operand that has base and displacement. */
  | 'vsib' | 'scale'
  /** A register that the opcode fixes: `fixed` is its number. */ | 'gpr' | 'seg' | 'st' | 'xmm'
  /** The constant 1. */ | 'one'; // prettier-ignore

export type OperandType =
  | 'b' | 'w' | 'd' | 'q'
  /** 16, 32 or 64 by operand size. */ | 'v'
  /** 16, or 32 for 32 and 64. */ | 'z'
  /** 32, or 64 with REX.W. */ | 'y'
  /** 80-bit float. */ | 't'
  /** 16 bytes; 32 bytes. */ | 'x' | 'qq'
  /** Far pointer: offset by operand size, then selector. */ | 'p'
  /** Pseudo-descriptor of LGDT and friends. */ | 's'
  /** Two bounds of BOUND. */ | 'a'
  /** byte immediate, sign-extended to operand size. */ | 'bs'
  /** An address only, or a size that the semantics know. */ | ''; // prettier-ignore

export interface OperandSpec {
  readonly text: string;
  readonly method: OperandMethod;
  readonly type: OperandType;
  /** Register number for `gpr`, `seg`, `st`, `xmm`. */
  readonly fixed: number;
}

export type Feature = 'x87' | 'mmx' | 'sse' | 'avx' | '';
export type OperandSizeRule =
  /** None, or fixed by the operand types. */
  | 'fixed'
  /** 16/32 by mode and 66h, 64 by REX.W. */
  | 'v'
  /** As v, but 64 by default in 64-bit mode (16 by 66h). */
  | 'd64'
  /** 64 in 64-bit mode whatever the prefixes; else as v. */
  | 'f64';

export interface Row {
  /** Place in the table: a dense number that tables may be indexed by. */
  readonly index: number;
  readonly mnemonic: string;
  readonly encoding: string;
  /** 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A. */
  readonly map: 0 | 1 | 2 | 3;
  readonly opcode: number;
  /** Mandatory prefix; 'np' none of 66 F3 F2, 'any' when those prefixes keep their usual meaning. */
  readonly prefix: 'any' | 'np' | '66' | 'f3' | 'f2';
  readonly rexW: 0 | 1 | undefined;
  /** Encoded with a VEX prefix, and what its L must be. */
  readonly vex: boolean;
  readonly vexL: 0 | 1 | undefined;
  /** Low three bits of the opcode are a register. */
  readonly plusReg: boolean;
  readonly hasModrm: boolean;
  /** Required ModRM.reg, ModRM.rm (with mod = 3). */
  readonly reg: number | undefined;
  readonly rm: number | undefined;
  readonly form: 'any' | 'memory' | 'register';
  readonly operands: readonly OperandSpec[];
  readonly sizeRule: OperandSizeRule;
  /** Name in the table of semantics. */
  readonly semantics: string;
  /** Condition code 0 to 15 of Jcc, SETcc, CMOVcc; a variant number elsewhere (`e.variant`). */
  readonly variant: number;
  readonly feature: Feature;
  readonly valid: 'any' | 'only64' | 'no64';
  /** LOCK is allowed with a memory destination. */
  readonly lockable: boolean;
  /** REP and REPNE repeat it. */
  readonly repeatable: boolean;
  /** Does not fall through, or changes what the code after it depends on: ends a run of decoded instructions. */
  readonly ends: boolean;
}

export interface RowOptions {
  variant?: number;
  feature?: Feature;
  valid?: Row['valid'];
  size?: OperandSizeRule;
  lock?: boolean;
  repeat?: boolean;
  ends?: boolean;
}

const GPR_NAMES: Record<string, number> = { AL: 0, CL: 1, DX: 2, AX: 0, rAX: 0, rCX: 1, rDX: 2, AH: 4 };
const GPR_TYPES: Record<string, OperandType> = { AL: 'b', CL: 'b', DX: 'w', AX: 'w', rAX: 'v', rCX: 'v', rDX: 'v', AH: 'b' }; // prettier-ignore
const SEG_NAMES = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'];

function operandSpec(text: string): OperandSpec {
  const gpr = GPR_NAMES[text];
  if (gpr !== undefined) return { text, method: 'gpr', type: GPR_TYPES[text] ?? 'v', fixed: gpr };
  const seg = SEG_NAMES.indexOf(text);
  if (seg >= 0) return { text, method: 'seg', type: 'w', fixed: seg };
  if (text === '1') return { text, method: 'one', type: 'b', fixed: 1 };
  if (text === 'ST0') return { text, method: 'st', type: 't', fixed: 0 };
  if (text === 'STi') return { text, method: 'T', type: 't', fixed: 0 };
  if (text.startsWith('VSIB')) return { text, method: 'vsib', type: text.slice(4) as OperandType, fixed: 0 };
  if (text === 'SCALE') return { text, method: 'scale', type: 'b', fixed: 0 };
  if (text === 'XMM0') return { text, method: 'xmm', type: 'x', fixed: 0 };
  return { text, method: text.charAt(0) as OperandMethod, type: text.slice(1) as OperandType, fixed: 0 };
}

interface Encoding {
  map: 0 | 1 | 2 | 3;
  opcode: number;
  prefix: Row['prefix'];
  rexW: 0 | 1 | undefined;
  vex: boolean;
  vexL: 0 | 1 | undefined;
  plusReg: boolean;
  hasModrm: boolean;
  reg: number | undefined;
  rm: number | undefined;
  form: Row['form'];
}

function parseEncoding(text: string): Encoding {
  const e: Encoding = { map: 0, opcode: -1, prefix: 'any', rexW: undefined, vex: false, vexL: undefined, plusReg: false, hasModrm: false, reg: undefined, rm: undefined, form: 'any' }; // prettier-ignore
  const tokens = text.split(' ');
  while (tokens.length > 1 && /^(vex|l0|l1|np|66|f3|f2|w0|w1)$/.test(tokens[0] ?? '')) {
    const token = tokens.shift() as 'vex' | 'l0' | 'l1' | 'np' | '66' | 'f3' | 'f2' | 'w0' | 'w1';
    if (token === 'vex') e.vex = true;
    else if (token === 'l0' || token === 'l1') e.vexL = token === 'l1' ? 1 : 0;
    else if (token === 'w0' || token === 'w1') e.rexW = token === 'w1' ? 1 : 0;
    else e.prefix = token;
  }
  if (tokens.length > 1 && tokens[0] === '0f' && /^[0-9a-f]{2}/.test(tokens[1] ?? '')) {
    e.map = 1;
    tokens.shift();
    const escape = tokens.at(0);
    if ((escape === '38' || escape === '3a') && /^[0-9a-f]{2}/.test(tokens[1] ?? '')) {
      e.map = escape === '38' ? 2 : 3;
      tokens.shift();
    }
  }
  for (const token of tokens) {
    if (/^[0-9a-f]{2}(\+r)?$/.test(token)) {
      const byte = parseInt(token, 16);
      if (e.opcode < 0) e.opcode = byte;
      else {
        e.hasModrm = true;
        e.reg = (byte >> 3) & 7;
        e.rm = byte & 7;
        e.form = 'register';
      }
      e.plusReg ||= token.endsWith('+r');
    } else if (token.startsWith('/')) {
      e.hasModrm = true;
      if (token !== '/r') e.reg = Number(token.slice(1));
    } else if (token === 'm') e.form = 'memory';
    else if (token === 'r') e.form = 'register';
    else throw new Error(`row encoding '${text}': what is '${token}'?`);
  }
  return e;
}

export type RowSource = readonly [
  mnemonic: string,
  encoding: string,
  operands: string,
  semantics: string,
  options?: RowOptions,
];

/** Builds one row from its columns. */
export function makeRow(index: number, [mnemonic, encoding, operandText, semantics, options = {}]: RowSource): Row {
  const e = parseEncoding(encoding);
  const operands = operandText === '' ? [] : operandText.split(',').map((o) => operandSpec(o.trim()));
  if (operands.some((o) => o.method === 'M')) e.form = 'memory';
  if (operands.some((o) => ['R', 'U', 'N'].includes(o.method))) e.form = 'register';
  const sized = operands.some((o) => ['v', 'z', 'y', 'p', 'a'].includes(o.type));
  return {
    index, mnemonic, encoding, ...e, operands, semantics,
    sizeRule: options.size ?? (sized ? 'v' : 'fixed'),
    variant: options.variant ?? 0,
    feature: options.feature ?? '',
    valid: options.valid ?? 'any',
    lockable: options.lock ?? false,
    repeatable: options.repeat ?? false,
    ends: options.ends ?? false,
  }; // prettier-ignore
}

export const CONDITIONS = ['o', 'no', 'b', 'ae', 'z', 'nz', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'] as const; // prettier-ignore
