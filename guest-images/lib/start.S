// Entry in S-mode: a0 = hart id, a1 = device tree, satp = 0. Only the boot hart comes here.
  .section .text.start, "ax"
  .globl _start
_start:
  .option push
  .option norelax
  la gp, __global_pointer$
  .option pop
  la sp, __stack_top
  csrw sie, zero
  csrci sstatus, 2
  li t0, 1 << 13              // sstatus.FS = Initial: the floating-point registers may be touched
  csrs sstatus, t0
  la t0, trap_entry
  csrw stvec, t0
  la t0, __bss_start
  la t1, __bss_end
1:
  bgeu t0, t1, 2f
  sd zero, 0(t0)
  addi t0, t0, 8
  j 1b
2:
  call guest_start
3:
  wfi
  j 3b

// Where SBI HSM starts another hart: a0 = hart id, a1 = struct hart_start {stack top, function, its argument}.
  .text
  .balign 4
  .globl hart_entry
hart_entry:
  .option push
  .option norelax
  la gp, __global_pointer$
  .option pop
  csrw sie, zero
  csrci sstatus, 2
  li t0, 1 << 13
  csrs sstatus, t0
  la t0, trap_entry
  csrw stvec, t0
  ld sp, 0(a1)
  ld t0, 8(a1)
  ld a0, 16(a1)
  jalr t0
  csrw sie, zero
  li a7, 0x48534d             // SBI HSM hart_stop
  li a6, 1
  ecall
4:
  wfi
  j 4b

// Every trap saves x1..x31 and sepc in a struct trap_frame on the stack of the interrupted code.
  .text
  .balign 4
  .globl trap_entry
trap_entry:
  addi sp, sp, -272
  sd x1, 8(sp)
  sd x3, 24(sp)
  sd x4, 32(sp)
  sd x5, 40(sp)
  sd x6, 48(sp)
  sd x7, 56(sp)
  sd x8, 64(sp)
  sd x9, 72(sp)
  sd x10, 80(sp)
  sd x11, 88(sp)
  sd x12, 96(sp)
  sd x13, 104(sp)
  sd x14, 112(sp)
  sd x15, 120(sp)
  sd x16, 128(sp)
  sd x17, 136(sp)
  sd x18, 144(sp)
  sd x19, 152(sp)
  sd x20, 160(sp)
  sd x21, 168(sp)
  sd x22, 176(sp)
  sd x23, 184(sp)
  sd x24, 192(sp)
  sd x25, 200(sp)
  sd x26, 208(sp)
  sd x27, 216(sp)
  sd x28, 224(sp)
  sd x29, 232(sp)
  sd x30, 240(sp)
  sd x31, 248(sp)
  addi t0, sp, 272
  sd t0, 16(sp)
  csrr t0, sepc
  sd t0, 256(sp)
  csrr a0, scause
  csrr a1, stval
  mv a2, sp
  call trap_handle
  ld t0, 256(sp)
  csrw sepc, t0
  ld x1, 8(sp)
  ld x3, 24(sp)
  ld x4, 32(sp)
  ld x5, 40(sp)
  ld x6, 48(sp)
  ld x7, 56(sp)
  ld x8, 64(sp)
  ld x9, 72(sp)
  ld x10, 80(sp)
  ld x11, 88(sp)
  ld x12, 96(sp)
  ld x13, 104(sp)
  ld x14, 112(sp)
  ld x15, 120(sp)
  ld x16, 128(sp)
  ld x17, 136(sp)
  ld x18, 144(sp)
  ld x19, 152(sp)
  ld x20, 160(sp)
  ld x21, 168(sp)
  ld x22, 176(sp)
  ld x23, 184(sp)
  ld x24, 192(sp)
  ld x25, 200(sp)
  ld x26, 208(sp)
  ld x27, 216(sp)
  ld x28, 224(sp)
  ld x29, 232(sp)
  ld x30, 240(sp)
  ld x31, 248(sp)
  addi sp, sp, 272
  sret
