/** Assembly of the PV clock: system time from vcpu_time_info and the wall clock from shared_info (`xen/include/public/xen.h`). */

export const timeSource = `
; rax = nanoseconds of system time: system_time + ((tsc - tsc_timestamp) << shift) * mul >> 32
system_time:
    push rbx
    lea rbx, [rel shared_info + VI_time]
.again:
    mov r8d, [rbx]
    test r8d, 1
    jne .again
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [rbx + 8]
    movsx ecx, byte [rbx + 28]
    test ecx, ecx
    jns .left
    neg ecx
    shr rax, cl
    jmp .scaled
.left:
    shl rax, cl
.scaled:
    mov edx, [rbx + 24]
    mul rdx
    shrd rax, rdx, 32
    add rax, [rbx + 16]
    cmp r8d, [rbx]
    jne .again
    pop rbx
    ret

; "system time S.NNNNNNNNN s" and "wall clock YYYY-MM-DD HH:MM:SS UTC"
do_time:
    push rbx
    push r12
    push r13
    call system_time
    mov r12, rax
    lea rdi, [rel time_system]
    call puts
    mov rax, r12
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov rbx, rdx
    mov rdi, rax
    call put_decimal
    lea rdi, [rel time_dot]
    call puts
    mov rdi, rbx
    mov esi, 9
    call put_padded
    lea rdi, [rel time_wall]
    call puts
    mov eax, [rel shared_info + SH_wc_nsec]
    add rax, r12
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov ecx, [rel shared_info + SH_wc_sec]
    add rax, rcx
    xor edx, edx
    mov ecx, 86400
    div rcx
    mov rbx, rdx
    ; days since 1970 to a civil date: eras of 400 years that begin in March
    add rax, 719468
    xor edx, edx
    mov ecx, 146097
    div rcx
    mov r12, rax
    mov r13, rdx
    ; year of era = (doe - doe/1460 + doe/36524 - doe/146096) / 365
    mov rax, r13
    xor edx, edx
    mov ecx, 1460
    div rcx
    mov r8, r13
    sub r8, rax
    mov rax, r13
    xor edx, edx
    mov ecx, 36524
    div rcx
    add r8, rax
    mov rax, r13
    xor edx, edx
    mov ecx, 146096
    div rcx
    sub r8, rax
    mov rax, r8
    xor edx, edx
    mov ecx, 365
    div rcx
    mov r8, rax
    ; day of year = doe - (365*yoe + yoe/4 - yoe/100)
    imul r9, r8, 365
    mov rax, r8
    shr rax, 2
    add r9, rax
    mov rax, r8
    xor edx, edx
    mov ecx, 100
    div rcx
    sub r9, rax
    sub r13, r9
    imul r12, r12, 400
    add r12, r8
    ; month from March = (5*doy + 2) / 153; day = doy - (153*m + 2)/5 + 1
    imul rax, r13, 5
    add rax, 2
    xor edx, edx
    mov ecx, 153
    div rcx
    mov r10, rax
    imul rax, r10, 153
    add rax, 2
    xor edx, edx
    mov ecx, 5
    div rcx
    sub r13, rax
    inc r13
    add r10, 3
    cmp r10, 12
    jbe .month
    sub r10, 12
    inc r12
.month:
    push r10
    mov rdi, r12
    mov esi, 4
    call put_padded
    lea rdi, [rel time_dash]
    call puts
    pop rdi
    mov esi, 2
    call put_padded
    lea rdi, [rel time_dash]
    call puts
    mov rdi, r13
    mov esi, 2
    call put_padded
    lea rdi, [rel space]
    call puts
    mov rax, rbx
    xor edx, edx
    mov ecx, 3600
    div rcx
    mov rbx, rdx
    mov rdi, rax
    mov esi, 2
    call put_padded
    lea rdi, [rel time_colon]
    call puts
    mov rax, rbx
    xor edx, edx
    mov ecx, 60
    div rcx
    mov rbx, rdx
    mov rdi, rax
    mov esi, 2
    call put_padded
    lea rdi, [rel time_colon]
    call puts
    mov rdi, rbx
    mov esi, 2
    call put_padded
    lea rdi, [rel time_utc]
    call puts
    pop r13
    pop r12
    pop rbx
    ret

time_system: db "system time ", 0
time_dot: db ".", 0
time_wall: db " s\\nwall clock ", 0
time_dash: db "-", 0
time_colon: db ":", 0
time_utc: db " UTC\\n", 0
`;
