/**
 * What every guest of ours shares, in assembly: start of day, event upcall, console, hypercalls. Virtual base 0, so a
 * pseudo-physical address is a virtual one. Facts: `xen/include/public/{xen,start_info,event_channel,io/console}.h`.
 *
 * Calling convention: arguments in rdi, rsi, rdx; result in rax; rbx, rbp, r12 to r15 are kept.
 */
import { Hypercall } from '@xenhost/xen-abi';
import { assemble } from '@xenhost/cpu';
import { elfImage } from './elf-image.ts';

const LOAD_ADDRESS = 0x100000n;
const HYPERCALL_SLOT = 32;

/** `call` of a hypercall through the hypercall page. */
export const hypercall = (name: keyof typeof Hypercall): string =>
  `call hypercall_page + ${Hypercall[name] * HYPERCALL_SLOT}`;

const M2P = '0xffff800000000000';

/** Offsets that the sources use by name. */
const symbols = {
  SCHEDOP_yield: 0, SCHEDOP_block: 1, SCHEDOP_shutdown: 2, SHUTDOWN_poweroff: 0, SHUTDOWN_reboot: 1, SHUTDOWN_crash: 3,
  EVTCHNOP_send: 4, EVTCHNOP_status: 5,
  SI_nr_pages: 32, SI_shared_info: 40, SI_flags: 48, SI_store_mfn: 56, SI_store_evtchn: 64, SI_console_mfn: 72,
  SI_console_evtchn: 80, SI_cmd_line: 128,
  VI_upcall_pending: 0, VI_upcall_mask: 1, VI_pending_sel: 8, VI_time: 32,
  SH_evtchn_pending: 2048, SH_evtchn_mask: 2560, SH_wc_version: 3072, SH_wc_sec: 3076, SH_wc_nsec: 3080,
  CONS_in: 0, CONS_out: 1024, CONS_in_cons: 3072, CONS_in_prod: 3076, CONS_out_cons: 3080, CONS_out_prod: 3084,
  UVMF_INVLPG: 2, PTE_PRESENT_RW: 7,
} as const; // prettier-ignore

const startup = `
; rsi = start_info
start:
    cld
    lea rsp, [rel stack_top]
    mov [rel start_info], rsi
    mov rbx, rsi
    lea rdi, [rel shared_info]
    mov rsi, [rbx + SI_shared_info]
    or rsi, PTE_PRESENT_RW
    mov edx, UVMF_INVLPG
    ${hypercall('update_va_mapping')}
    test rax, rax
    jne fail
    mov rdi, [rbx + SI_console_mfn]
    call mfn_to_virtual
    mov [rel console_ring], rax
    mov rdi, [rbx + SI_store_mfn]
    call mfn_to_virtual
    mov [rel store_ring], rax
    lea rdi, [rel event_entry]
    lea rsi, [rel failsafe_entry]
    xor edx, edx
    ${hypercall('set_callbacks')}
    test rax, rax
    jne fail
    mov byte [rel shared_info + VI_upcall_mask], 0
    call main
    xor edi, edi
    jmp shutdown

; rdi = machine frame; rax = virtual address
mfn_to_virtual:
    mov rax, ${M2P}
    mov rax, [rax + rdi*8]
    shl rax, 12
    ret

; rdi = reason; does not return
shutdown:
    mov [rel shutdown_argument], edi
    mov edi, SCHEDOP_shutdown
    lea rsi, [rel shutdown_argument]
    ${hypercall('sched_op')}
    jmp shutdown

fail:
    mov edi, SHUTDOWN_crash
    jmp shutdown

failsafe_entry:
    ud2

; Event upcall: counts each pending port and clears it. Frame: rcx r11 rip cs rflags rsp ss.
event_entry:
    push rax
    push rdx
    push rbx
    push rsi
    push rdi
    push r8
    mov byte [rel shared_info + VI_upcall_pending], 0
    xor eax, eax
    xchg [rel shared_info + VI_pending_sel], rax
.words:
    bsf rbx, rax
    je .done
    btr rax, rbx
    lea rsi, [rel shared_info + SH_evtchn_pending]
    lea rdi, [rel shared_info + SH_evtchn_mask]
    mov rdx, [rdi + rbx*8]
    not rdx
    and rdx, [rsi + rbx*8]
.ports:
    bsf r8, rdx
    je .words
    btr rdx, r8
    lock btr [rsi + rbx*8], r8
    mov rdi, rbx
    shl rdi, 6
    add rdi, r8
    cmp rdi, NR_COUNTED
    jae .ports
    lea rcx, [rel event_counts]
    inc dword [rcx + rdi*4]
    jmp .ports
.done:
    pop r8
    pop rdi
    pop rsi
    pop rbx
    pop rdx
    pop rax
    pop rcx
    pop r11
    ; The slot of iret pushes rcx, r11 and rax below these flags.
    push 0
    jmp hypercall_page + ${Hypercall.iret * HYPERCALL_SLOT}
`;

const consoleText = `
; Writes the byte in dil to the console ring; waits while it is full.
putc:
    push rbx
    mov rbx, [rel console_ring]
.full:
    mov eax, [rbx + CONS_out_prod]
    mov ecx, eax
    sub ecx, [rbx + CONS_out_cons]
    cmp ecx, 2048
    jb .room
    push rdi
    call console_notify
    mov edi, SCHEDOP_yield
    xor esi, esi
    ${hypercall('sched_op')}
    pop rdi
    jmp .full
.room:
    mov ecx, eax
    and ecx, 2047
    mov [rbx + rcx + CONS_out], dil
    inc eax
    mov [rbx + CONS_out_prod], eax
    pop rbx
    ret

console_notify:
    push rbx
    mov rax, [rel start_info]
    mov eax, [rax + SI_console_evtchn]
    mov [rel send_argument], eax
    mov edi, EVTCHNOP_send
    lea rsi, [rel send_argument]
    ${hypercall('event_channel_op')}
    pop rbx
    ret

; rdi = text ended by 0; a line feed becomes CR LF
puts:
    push rbx
    mov rbx, rdi
.next:
    movzx edi, byte [rbx]
    test dil, dil
    je .end
    cmp dil, 10
    jne .plain
    mov edi, 13
    call putc
    mov edi, 10
.plain:
    call putc
    inc rbx
    jmp .next
.end:
    call console_notify
    pop rbx
    ret

; rdi = number
put_decimal:
    push rbx
    push r12
    mov rax, rdi
    lea rbx, [rel digits_end]
    mov ecx, 10
.digit:
    xor edx, edx
    div rcx
    add dl, '0'
    dec rbx
    mov [rbx], dl
    test rax, rax
    jne .digit
.print:
    mov rdi, rbx
    call puts
    pop r12
    pop rbx
    ret

; rdi = number, rsi = digits (zero-filled)
put_padded:
    push rbx
    push r12
    mov rax, rdi
    mov r12, rsi
    lea rbx, [rel digits_end]
    mov ecx, 10
.pad:
    xor edx, edx
    div rcx
    add dl, '0'
    dec rbx
    mov [rbx], dl
    dec r12
    jne .pad
    mov rdi, rbx
    call puts
    pop r12
    pop rbx
    ret

; rdi = number
put_hex:
    push rbx
    mov rax, rdi
    lea rbx, [rel digits_end]
.hex:
    mov edx, eax
    and edx, 15
    lea rcx, [rel hex_digits]
    mov dl, [rcx + rdx]
    dec rbx
    mov [rbx], dl
    shr rax, 4
    jne .hex
    mov rdi, rbx
    call puts
    pop rbx
    ret

; al = next byte of the console, or rax = -1 when there is none
getc:
    mov rdx, [rel console_ring]
    mov eax, [rdx + CONS_in_cons]
    cmp eax, [rdx + CONS_in_prod]
    je .none
    mov ecx, eax
    and ecx, 1023
    movzx ecx, byte [rdx + rcx + CONS_in]
    inc eax
    mov [rdx + CONS_in_cons], eax
    push rcx
    call console_notify
    pop rax
    ret
.none:
    mov rax, -1
    ret

; Sleeps until an event; events are let in by the hypervisor.
block:
    mov edi, SCHEDOP_block
    xor esi, esi
    ${hypercall('sched_op')}
    ret
`;

const data = `
hex_digits: db "0123456789abcdef"
align 8
start_info: dq 0
console_ring: dq 0
store_ring: dq 0
shutdown_argument: dd 0
send_argument: dd 0
NR_COUNTED equ 1024
event_counts: resb NR_COUNTED * 4
digits: resb 32
digits_end: db 0
align 4096
hypercall_page: resb 4096
shared_info: resb 4096
stack: resb 16384
stack_top:
`;

/** Local labels (`.name`) belong to the label before them: written out, so that the assembler needs no scopes. */
function expandLocalLabels(source: string): string {
  let scope = '';
  return source
    .split('\n')
    .map((line) => {
      const label = /^([A-Za-z_]\w*):/.exec(line)?.[1];
      if (label !== undefined) scope = label;
      return line.replaceAll(
        /(^|[\s,])\.([a-z]\w*)/g,
        (_, before: string, name: string) => `${before}${scope}.${name}`,
      );
    })
    .join('\n');
}

/** A bootable kernel: the runtime and a source that defines `main` (returning from it powers the domain off). */
export function guestKernel(name: string, source: string): Uint8Array {
  const text = expandLocalLabels([startup, consoleText, source, data].join('\n'));
  const { bytes, symbols: addresses } = assemble(text, { origin: LOAD_ADDRESS, symbols });
  const address = (label: string): bigint => {
    const found = addresses.get(label);
    if (found === undefined) throw new Error(`guest ${name}: no label ${label}`);
    return found;
  };
  return elfImage(bytes, LOAD_ADDRESS, {
    guestOs: name,
    entry: address('start'),
    hypercallPage: address('hypercall_page'),
  });
}
