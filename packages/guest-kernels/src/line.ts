/**
 * Assembly of a command line on the PV console: reads a line with echo, finds its command in a table, calls it. While it waits it
 * sleeps, and obeys control/shutdown (`xenstore.ts`). Needs `newline`-terminated output through `puts` of the runtime.
 */

/** What is typed, the routine that is called with rdi = the rest of the line, what `help` says of it. */
export type ShellCommand = readonly [name: string, routine: string, help: string];

const NAME_COLUMN = 9;
const DEFAULT_LINE_MAX = 255;

/** `read_line`, `run_line`, `do_help` and what they need, for these commands. `lineMax`: bytes of a line. */
export function lineSource(commands: readonly ShellCommand[], lineMax = DEFAULT_LINE_MAX): string {
  const names = commands.map(([name], i) => `cmd_name_${i}: db "${name}", 0`).join('\n');
  const table = commands.map(([, routine], i) => `dq cmd_name_${i}, ${routine}`).join('\n');
  const help = commands.map(([name, , text]) => `${name.padEnd(NAME_COLUMN)} ${text}\\n`).join('');
  return `
; Reads a line into 'line' with echo and backspace; does the control/shutdown work while it waits.
read_line:
    push rbx
    xor ebx, ebx
.next:
    call getc
    cmp rax, -1
    jne .have
    call poll_shutdown
    call wait_event
    jmp .next
.have:
    cmp al, 13
    je .end
    cmp al, 10
    je .end
    cmp al, 127
    je .erase
    cmp al, 8
    je .erase
    cmp al, 32
    jb .next
    cmp ebx, LINE_MAX
    jae .next
    lea rdx, [rel line]
    mov [rdx + rbx], al
    inc ebx
    mov edi, eax
    call putc
    call console_notify
    jmp .next
.erase:
    test ebx, ebx
    je .next
    dec ebx
    lea rdi, [rel erase]
    call puts
    jmp .next
.end:
    lea rdx, [rel line]
    mov byte [rdx + rbx], 0
    lea rdi, [rel newline]
    call puts
    pop rbx
    ret

; Sleeps unless console input or a xenstore reply is there already. Events are masked from the look to the sleep.
wait_event:
    mov byte [rel shared_info + VI_upcall_mask], 1
    mov rdx, [rel console_ring]
    mov eax, [rdx + CONS_in_cons]
    cmp eax, [rdx + CONS_in_prod]
    jne .awake
    mov rdx, [rel store_ring]
    mov eax, [rdx + XS_rsp_cons]
    cmp eax, [rdx + XS_rsp_prod]
    jne .awake
    call block
    ret
.awake:
    mov byte [rel shared_info + VI_upcall_mask], 0
    ret

; Finds the command of 'line' and calls it with rdi = the rest of the line.
run_line:
    push rbx
    push r12
    lea rdi, [rel line]
    call skip_spaces
    cmp byte [rdi], 0
    je .end
    mov r12, rdi
    lea rbx, [rel command_table]
.next:
    mov rsi, [rbx]
    test rsi, rsi
    je .unknown
    mov rdi, r12
    call match_word
    test rax, rax
    jne .found
    add rbx, 16
    jmp .next
.found:
    mov rdi, rax
    call skip_spaces
    call qword [rbx + 8]
    jmp .end
.unknown:
    lea rdi, [rel unknown]
    call puts
.end:
    pop r12
    pop rbx
    ret

; rdi = text; moves it past spaces
skip_spaces:
    cmp byte [rdi], 32
    jne .end
    inc rdi
    jmp skip_spaces
.end:
    ret

; rdi = text, rsi = word ended by 0; rax = what follows the word in the text, or 0
match_word:
    mov al, [rsi]
    test al, al
    je .whole
    cmp al, [rdi]
    jne .no
    inc rsi
    inc rdi
    jmp match_word
.whole:
    cmp byte [rdi], 32
    je .yes
    cmp byte [rdi], 0
    jne .no
.yes:
    mov rax, rdi
    ret
.no:
    xor eax, eax
    ret

do_help:
    lea rdi, [rel help_text]
    jmp puts

LINE_MAX equ ${lineMax}
line: resb ${lineMax + 1}
newline: db "\\n", 0
erase: db 8, " ", 8, 0
unknown: db "no such command; help lists them\\n", 0
help_text: db "${help}", 0
${names}
align 8
command_table:
${table}
dq 0, 0
`;
}
