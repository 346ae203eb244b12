// Into U-mode and back. struct user_context: x0 … x31, sepc, the kernel's stack pointer, satp.
  .text
  .balign 4
  .globl user_enter
// Runs the process until its next trap, and returns then, interrupts off and satp = 0.
user_enter:
  addi sp, sp, -112
  sd ra, 0(sp)
  sd s0, 8(sp)
  sd s1, 16(sp)
  sd s2, 24(sp)
  sd s3, 32(sp)
  sd s4, 40(sp)
  sd s5, 48(sp)
  sd s6, 56(sp)
  sd s7, 64(sp)
  sd s8, 72(sp)
  sd s9, 80(sp)
  sd s10, 88(sp)
  sd s11, 96(sp)
  sd tp, 104(sp)
  sd sp, 264(a0)
  csrw sscratch, a0
  la t0, user_trap
  csrw stvec, t0
  ld t0, 256(a0)
  csrw sepc, t0
  li t0, 0x100                // sstatus.SPP = U
  csrc sstatus, t0
  li t0, 0x20                 // sstatus.SPIE
  csrs sstatus, t0
  ld t0, 272(a0)
  csrw satp, t0
  sfence.vma
  ld x1, 8(a0)
  ld x2, 16(a0)
  ld x3, 24(a0)
  ld x4, 32(a0)
  ld x5, 40(a0)
  ld x6, 48(a0)
  ld x7, 56(a0)
  ld x8, 64(a0)
  ld x9, 72(a0)
  ld x11, 88(a0)
  ld x12, 96(a0)
  ld x13, 104(a0)
  ld x14, 112(a0)
  ld x15, 120(a0)
  ld x16, 128(a0)
  ld x17, 136(a0)
  ld x18, 144(a0)
  ld x19, 152(a0)
  ld x20, 160(a0)
  ld x21, 168(a0)
  ld x22, 176(a0)
  ld x23, 184(a0)
  ld x24, 192(a0)
  ld x25, 200(a0)
  ld x26, 208(a0)
  ld x27, 216(a0)
  ld x28, 224(a0)
  ld x29, 232(a0)
  ld x30, 240(a0)
  ld x31, 248(a0)
  ld x10, 80(a0)
  sret

  .balign 4
user_trap:
  csrrw a0, sscratch, a0
  sd x1, 8(a0)
  sd x2, 16(a0)
  sd x3, 24(a0)
  sd x4, 32(a0)
  sd x5, 40(a0)
  sd x6, 48(a0)
  sd x7, 56(a0)
  sd x8, 64(a0)
  sd x9, 72(a0)
  sd x11, 88(a0)
  sd x12, 96(a0)
  sd x13, 104(a0)
  sd x14, 112(a0)
  sd x15, 120(a0)
  sd x16, 128(a0)
  sd x17, 136(a0)
  sd x18, 144(a0)
  sd x19, 152(a0)
  sd x20, 160(a0)
  sd x21, 168(a0)
  sd x22, 176(a0)
  sd x23, 184(a0)
  sd x24, 192(a0)
  sd x25, 200(a0)
  sd x26, 208(a0)
  sd x27, 216(a0)
  sd x28, 224(a0)
  sd x29, 232(a0)
  sd x30, 240(a0)
  sd x31, 248(a0)
  csrr t0, sscratch
  sd t0, 80(a0)
  csrr t0, sepc
  sd t0, 256(a0)
  csrw satp, zero
  sfence.vma
  la t0, trap_entry
  csrw stvec, t0
  .option push
  .option norelax
  la gp, __global_pointer$
  .option pop
  ld sp, 264(a0)
  ld ra, 0(sp)
  ld s0, 8(sp)
  ld s1, 16(sp)
  ld s2, 24(sp)
  ld s3, 32(sp)
  ld s4, 40(sp)
  ld s5, 48(sp)
  ld s6, 56(sp)
  ld s7, 64(sp)
  ld s8, 72(sp)
  ld s9, 80(sp)
  ld s10, 88(sp)
  ld s11, 96(sp)
  ld tp, 104(sp)
  addi sp, sp, 112
  ret
