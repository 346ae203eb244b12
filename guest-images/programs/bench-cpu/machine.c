// Kernels that use the privileged side: traps, translation, and code that is new.
#include "kernels.h"
#include "program.h"
#include "trap.h"

u64 bench_trap(u64 scale) {
  trap_forgive();
  for (u64 i = 0; i < scale * 100; i++) __asm__ volatile(".option push\n.option norvc\nebreak\n.option pop" ::: "memory");
  return trap_forgive_end();
}

#define PTE_TABLE 1ul
// V, R, W, X, A, D.
#define PTE_LEAF 0xcful
#define SV39 (8ul << 60)
#define WINDOW_TABLES 16u
#define ENTRIES 512u
#define WINDOW (4ul << 30)
#define FRAMES 64u

static u64 root[ENTRIES] __attribute__((aligned(4096)));
static u64 middle[ENTRIES] __attribute__((aligned(4096)));
static u64 lowest[WINDOW_TABLES][ENTRIES] __attribute__((aligned(4096)));
static u64 frames[FRAMES][ENTRIES] __attribute__((aligned(4096)));

static u64 pte(const void *at, u64 flags) { return (u64)at >> 12 << 10 | flags; }

// 8192 pages of virtual memory over 64 frames: nearly every access is to a page that no translation is kept of.
u64 bench_tlb(u64 scale) {
  for (u32 i = 0; i < 4; i++) root[i] = ((u64)i << 30) >> 12 << 10 | PTE_LEAF;
  root[WINDOW >> 30] = pte(middle, PTE_TABLE);
  for (u32 i = 0; i < WINDOW_TABLES; i++) {
    middle[i] = pte(lowest[i], PTE_TABLE);
    for (u32 j = 0; j < ENTRIES; j++) lowest[i][j] = pte(frames[(i * 7 + j * 13) % FRAMES], PTE_LEAF);
  }
  u64 pages = WINDOW_TABLES * ENTRIES, sum = 0, page = 1;
  csr_write(CSR_SATP, SV39 | (u64)root >> 12);
  __asm__ volatile("sfence.vma" ::: "memory");
  for (u64 i = 0; i < scale * 1000; i++) {
    page = (page * 5 + 1237) % pages;
    volatile u64 *word = (volatile u64 *)(WINDOW + page * PAGE_BYTES + (i % ENTRIES) * 8);
    sum += *word + i;
    *word = sum;
  }
  csr_write(CSR_SATP, 0);
  __asm__ volatile("sfence.vma" ::: "memory");
  return sum;
}

#define COLD_WORDS 16384u
static u32 code[COLD_WORDS] __attribute__((aligned(4096)));

// Straight-line code, each time other code, run once.
u64 bench_cold(u64 scale) {
  u64 sum = 0, x = 0x2545f4914f6cdd1d;
  for (u64 round = 0; round < scale / 20; round++) {
    for (u32 i = 0; i < COLD_WORDS - 1; i++) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      // addi, xori or ori of a0 or a1 into a0.
      static const u32 funct3[4] = {0, 4, 6, 0};
      code[i] = (u32)(x >> 40 & 0x7ff) << 20 | (10u + (x & 1)) << 15 | funct3[x >> 1 & 3] << 12 | 10u << 7 | 0x13;
    }
    code[COLD_WORDS - 1] = 0x00008067;  // ret
    __asm__ volatile("fence.i" ::: "memory");
    sum = ((u64(*)(u64, u64))(u64)code)(sum, x);
  }
  return sum;
}
