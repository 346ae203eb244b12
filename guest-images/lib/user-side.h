// What code of a process may call: it runs in U-mode, where only code, constants, stack and heap are (no globals).
#pragma once
#include "base.h"
#include "exerciser.h"
#include "user.h"

static inline u64 user_call(u64 number, u64 a, u64 b, u64 c) {
  register u64 a0 __asm__("a0") = a;
  register u64 a1 __asm__("a1") = b;
  register u64 a2 __asm__("a2") = c;
  register u64 a7 __asm__("a7") = number;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
  return a0;
}
__attribute__((noreturn)) static inline void user_exit(u32 code) {
  for (;;) user_call(USER_EXIT, code, 0, 0);
}
static inline void user_report(u32 index, u64 value) { user_call(USER_REPORT, index, value, 0); }

/// A heap that only grows; pages come when somebody, the hart or a device, first touches them.
struct user_heap {
  u64 next;
};
static inline void *user_malloc(struct user_heap *heap, u64 bytes) {
  u64 at = heap->next == 0 ? USER_HEAP : heap->next;
  heap->next = ALIGN_UP(at + bytes, 64);
  return (void *)at;
}

/// Two volatile copies, so that the compiler makes no memcpy of them.
static inline void user_copy(void *to, const void *from, u64 bytes) {
  for (u64 i = 0; i < bytes; i += 8) *(volatile u64 *)((u64)to + i) = *(const volatile u64 *)((u64)from + i);
}

/// An exerciser queue that the process drives itself.
struct user_queue {
  struct exerciser_descriptor *ring;
  volatile struct exerciser_completion *completions;
  volatile u32 *doorbell;
  u32 submitted, completed;
};
#define USER_QUEUE_ENTRIES 64u

static inline void user_submit(struct user_queue *q, const struct exerciser_descriptor *d) {
  user_copy(&q->ring[q->submitted % USER_QUEUE_ENTRIES], d, 64);
  q->submitted++;
  fence();
  q->doorbell[0] = q->submitted % USER_QUEUE_ENTRIES;
}

/// Waits for the next completion, by looking at the process's own memory.
static inline volatile struct exerciser_completion *user_next(struct user_queue *q) {
  volatile struct exerciser_completion *c = &q->completions[q->completed % USER_QUEUE_ENTRIES];
  while (c->phase != ((q->completed / USER_QUEUE_ENTRIES + 1) & 1));
  fence();
  q->completed++;
  q->doorbell[1] = q->completed % USER_QUEUE_ENTRIES;
  return c;
}
