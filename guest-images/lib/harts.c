#include "harts.h"
#include "device-tree.h"
#include "pages.h"
#include "sbi.h"

#define STACK_PAGES 4

extern u8 hart_entry[];

struct hart_start {
  u64 stack_top;
  void (*run)(u64 argument);
  u64 argument;
};

bool hart_at(u32 index, u64 *hart) {
  for (dt_node cpu = dt_compatible(DT_NONE, "riscv"); cpu != DT_NONE; cpu = dt_compatible(cpu, "riscv"))
    if (index-- == 0) return dt_reg(cpu, 0, hart, NULL);
  return false;
}

i64 hart_start(u64 hart, void (*run)(u64 argument), u64 argument) {
  // The start block lies at the foot of the stack, which is never given back.
  struct hart_start *start = (struct hart_start *)pages_take_together(STACK_PAGES);
  *start = (struct hart_start){(u64)start + STACK_PAGES * PAGE_BYTES, run, argument};
  fence();
  return sbi_call(SBI_HSM, 0, hart, (u64)hart_entry, (u64)start).error;
}

i64 hart_state(u64 hart) {
  struct sbi_result result = sbi_call(SBI_HSM, 2, hart, 0, 0);
  return result.error != 0 ? result.error : (i64)result.value;
}
