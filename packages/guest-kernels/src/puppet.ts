/**
 * The puppet guest: a kernel in assembly whose console reads and writes its own memory, grant table and event channels, so that a
 * test can be any frontend, honest or not: rings that it lays out, grants that it gives and takes back, requests that change
 * while they are read. Numbers are hexadecimal. (`xen/include/public/{grant_table,event_channel}.h`.)
 */
import { lineSource, type ShellCommand } from './line.ts';
import { guestKernel, hypercall } from './runtime.ts';
import { xenstoreSource } from './xenstore.ts';

export const puppetPrompt = 'puppet> ';
/** Pages of its area. */
export const PUPPET_PAGES = 64;

const LINE_MAX = 1023;

const commands: readonly ShellCommand[] = [
  ['help', 'do_help', 'this list'],
  ['area', 'do_area', 'where its pages begin'],
  ['frame', 'do_frame', 'ADDRESS: the machine frame of a page'],
  ['put', 'do_put', 'ADDRESS BYTES: writes memory'],
  ['set', 'do_set', 'ADDRESS VALUE: writes 32 bits at once'],
  ['get', 'do_get', 'ADDRESS COUNT: reads memory'],
  ['flip', 'do_flip', 'ADDRESS A B COUNT PORT: an event, then writes A and B in turn, 32 bits'],
  ['grant', 'do_grant', 'REFERENCE FRAME FLAGS: an entry for Domain-0; flags 0 take it back'],
  ['port', 'do_port', 'a new port for Domain-0'],
  ['close', 'do_close', 'PORT: closes it'],
  ['send', 'do_send', 'PORT: an event'],
  ['xs-read', 'do_read', 'PATH: value of a xenstore node'],
  ['xs-list', 'do_list', 'PATH: children of a xenstore node'],
  ['xs-write', 'do_write', 'PATH VALUE: write a xenstore node'],
];

const source = `
GNTTABOP_setup_table equ 2
EVTCHNOP_close equ 3
EVTCHNOP_alloc_unbound equ 6
DOMID_SELF equ 0x7ff0
SI_mfn_list equ 104

main:
    mov edi, GNTTABOP_setup_table
    lea rsi, [rel setup_argument]
    mov edx, 1
    ${hypercall('grant_table_op')}
    test rax, rax
    jne fail
    cmp word [rel setup_status], 0
    jne fail
    lea rdi, [rel grant_table]
    mov rsi, [rel setup_frame]
    shl rsi, 12
    or rsi, PTE_PRESENT_RW
    mov edx, UVMF_INVLPG
    ${hypercall('update_va_mapping')}
    test rax, rax
    jne fail
    call watch_shutdown
.prompt:
    lea rdi, [rel prompt]
    call puts
    call read_line
    call run_line
    jmp .prompt

; rdi = text; rax = its hexadecimal number, rdi = what follows it and spaces
hex:
    call skip_spaces
    xor eax, eax
.digit:
    movzx ecx, byte [rdi]
    cmp cl, '0'
    jb .end
    cmp cl, '9'
    jbe .decimal
    or cl, 32
    cmp cl, 'a'
    jb .end
    cmp cl, 'f'
    ja .end
    sub cl, 39
.decimal:
    sub cl, '0'
    shl rax, 4
    or rax, rcx
    inc rdi
    jmp .digit
.end:
    push rax
    call skip_spaces
    pop rax
    ret

; rdi = number, as at least eight hexadecimal digits and a line feed
show:
    push rbx
    mov rbx, rdi
    mov rdi, rbx
    shr rdi, 24
    call show_byte
    mov rdi, rbx
    shr rdi, 16
    call show_byte
    mov rdi, rbx
    shr rdi, 8
    call show_byte
    mov rdi, rbx
    call show_byte
    lea rdi, [rel newline]
    call puts
    pop rbx
    ret

show_byte:
    push rbx
    mov rbx, rdi
    mov eax, ebx
    shr eax, 4
    and eax, 15
    lea rcx, [rel hex_digits]
    movzx edi, byte [rcx + rax]
    call putc
    mov eax, ebx
    and eax, 15
    lea rcx, [rel hex_digits]
    movzx edi, byte [rcx + rax]
    call putc
    pop rbx
    ret

do_area:
    lea rdi, [rel area]
    jmp show

do_frame:
    call hex
    shr rax, 12
    mov rdx, [rel start_info]
    mov rdx, [rdx + SI_mfn_list]
    mov rdi, [rdx + rax*8]
    jmp show

do_put:
    push rbx
    call hex
    mov rbx, rax
.byte:
    cmp byte [rdi], 0
    je .end
    cmp byte [rdi + 1], 0
    je .end
    ; two digits at a time: what follows is hidden from hex for a moment
    movzx edx, byte [rdi + 2]
    push rdx
    push rdi
    mov byte [rdi + 2], 0
    call hex
    pop rdi
    pop rdx
    mov [rdi + 2], dl
    mov [rbx], al
    inc rbx
    add rdi, 2
    jmp .byte
.end:
    pop rbx
    lea rdi, [rel done]
    jmp puts

do_set:
    push rbx
    call hex
    mov rbx, rax
    call hex
    mov [rbx], eax
    pop rbx
    lea rdi, [rel done]
    jmp puts

do_get:
    push rbx
    push r12
    call hex
    mov rbx, rax
    call hex
    mov r12, rax
.byte:
    test r12, r12
    je .end
    movzx edi, byte [rbx]
    call show_byte
    inc rbx
    dec r12
    jmp .byte
.end:
    pop r12
    pop rbx
    lea rdi, [rel newline]
    jmp puts

do_flip:
    push rbx
    push r12
    push r13
    call hex
    mov rbx, rax
    call hex
    mov r12, rax
    call hex
    mov r13, rax
    call hex
    push rax
    call hex
    mov [rel port_argument], eax
    mov edi, EVTCHNOP_send
    lea rsi, [rel port_argument]
    ${hypercall('event_channel_op')}
    pop rax
.turn:
    mov [rbx], r12d
    mov [rbx], r13d
    dec rax
    jne .turn
    pop r13
    pop r12
    pop rbx
    lea rdi, [rel done]
    jmp puts

; The frame before the flags: an entry is valid all at once. Domain-0 is domain 0.
do_grant:
    push rbx
    push r12
    call hex
    mov rbx, rax
    call hex
    mov r12, rax
    call hex
    lea rdx, [rel grant_table]
    lea rdx, [rdx + rbx*8]
    test eax, eax
    je .flags
    mov [rdx + 4], r12d
.flags:
    mov [rdx], eax
    pop r12
    pop rbx
    lea rdi, [rel done]
    jmp puts

do_port:
    mov dword [rel alloc_port], 0
    mov edi, EVTCHNOP_alloc_unbound
    lea rsi, [rel alloc_argument]
    ${hypercall('event_channel_op')}
    mov edi, [rel alloc_port]
    jmp show

do_close:
    call hex
    mov [rel port_argument], eax
    mov edi, EVTCHNOP_close
    jmp port_operation

do_send:
    call hex
    mov [rel port_argument], eax
    mov edi, EVTCHNOP_send
port_operation:
    lea rsi, [rel port_argument]
    ${hypercall('event_channel_op')}
    lea rdi, [rel done]
    jmp puts

${lineSource(commands, LINE_MAX)}
${xenstoreSource}

prompt: db "${puppetPrompt}", 0
done: db "done\\n", 0
align 8
setup_argument: dw DOMID_SELF, 0
dd 1
setup_status: dw 0, 0
dd 0
dq setup_frame
setup_frame: dq 0
alloc_argument: dw DOMID_SELF, 0
alloc_port: dd 0
port_argument: dd 0
align 4096
grant_table: resb 4096
area: resb 4096 * ${PUPPET_PAGES}
`;

let image: Uint8Array | undefined;

/** The kernel's ELF image, assembled at the first call. */
export function puppet(): Uint8Array {
  image ??= guestKernel('xenhost-puppet', source);
  return image;
}
