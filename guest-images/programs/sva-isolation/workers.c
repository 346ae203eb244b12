// What runs in U-mode.
#include "parts.h"
#include "user-side.h"

void victim(u64 unused) {
  (void)unused;
  *(volatile u64 *)VICTIM_AT = SECRET;
  user_exit(0);
}

void attacker(u64 victim_pasid) {
  struct user_heap heap = {0};
  struct user_queue q = {0};
  q.ring = user_malloc(&heap, USER_QUEUE_ENTRIES * 64);
  q.completions = user_malloc(&heap, USER_QUEUE_ENTRIES * 64);
  q.doorbell = (volatile u32 *)user_call(CALL_OPEN_QUEUE, (u64)q.ring, (u64)q.completions, 0);
  u32 pasid = (u32)victim_pasid;
  const u8 lazy = MODE_ATS | MODE_PAGE_REQUEST;
  // Another's PASID in the descriptor; its pointer; the kernel's memory; a translated address; a stop marker.
  struct exerciser_descriptor tries[ATTEMPTS] = {
      {.opcode = OP_FILL, .destination = VICTIM_AT, .length = 8, .destination_mode = MODE_PASID | MODE_ATS, .destination_pasid = pasid},
      {.opcode = OP_READ, .source = VICTIM_AT, .length = 8, .source_mode = MODE_PASID, .source_pasid = pasid, .destination = 0x1000},
      {.opcode = OP_FILL, .destination = 0x80200000, .length = 8, .destination_mode = lazy},
      {.opcode = OP_FILL, .destination = 0x80200000, .length = 8, .destination_mode = MODE_TRANSLATED},
      {.opcode = OP_STOP_MARKER, .source_mode = MODE_PASID, .source_pasid = pasid},
  };
  for (u32 i = 0; i < ATTEMPTS; i++) {
    user_submit(&q, &tries[i]);
    user_report(i, user_next(&q)->status);
  }
  user_exit(0);
}
