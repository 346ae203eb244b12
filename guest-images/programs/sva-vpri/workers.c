// What runs in U-mode. The device gets plain pointers from the process's heap; there is no system call on its way.
#include "parts.h"
#include "user-side.h"

// The PASID is the queue's, whatever a descriptor says.
#define MODES .source_mode = MODE_ATS | MODE_PAGE_REQUEST, .destination_mode = MODE_ATS | MODE_PAGE_REQUEST

struct worker {
  struct user_heap heap;
  struct user_queue queue;
  u64 reports[16];
};

static void open(struct worker *w) {
  for (u32 i = 0; i < 16; i++) ((volatile u64 *)w->reports)[i] = 0;
  w->heap.next = 0;
  w->queue.ring = user_malloc(&w->heap, USER_QUEUE_ENTRIES * 64);
  w->queue.completions = user_malloc(&w->heap, USER_QUEUE_ENTRIES * 64);
  w->queue.submitted = w->queue.completed = 0;
  // Pages of the heap are zero: no completion has the phase of the first round.
  w->queue.doorbell = (volatile u32 *)user_call(CALL_OPEN_QUEUE, (u64)w->queue.ring, (u64)w->queue.completions, 0);
  if (w->queue.doorbell == NULL) user_exit(1);
}

static void close(struct worker *w, u32 code) {
  for (u32 i = 0; i < 16; i++) user_report(i, w->reports[i]);
  user_exit(code);
}

static void note(struct worker *w, volatile struct exerciser_completion *c) {
  u64 ns = c->latency_ns;
  w->reports[REPORT_TRANSACTIONS]++;
  w->reports[REPORT_BYTES] += c->bytes_done;
  w->reports[REPORT_PAGE_REQUESTS] += c->page_requests;
  if (c->status != DONE_SUCCESS && w->reports[REPORT_ERROR] == 0) w->reports[REPORT_ERROR] = c->status + 1u;
  if (c->page_requests == 0) {
    w->reports[REPORT_HIT_NS] += ns;
    return;
  }
  w->reports[REPORT_MISSES]++;
  w->reports[REPORT_MISS_NS] += ns;
  if (ns > w->reports[REPORT_SLOWEST_NS]) w->reports[REPORT_SLOWEST_NS] = ns;
  u32 bucket = 0;
  while (bucket < HISTOGRAM_BUCKETS - 1 && ns >= 2000ul << bucket) bucket++;
  w->reports[REPORT_HISTOGRAM + bucket]++;
}

static u32 run(struct worker *w, const struct exerciser_descriptor *d) {
  user_submit(&w->queue, d);
  volatile struct exerciser_completion *c = user_next(&w->queue);
  note(w, c);
  return c->status;
}

static u64 pattern(u64 seed, u64 i) { return (seed << 32) + i * 0x9e3779b97f4a7c15; }

void lazy_worker(u64 pages) {
  struct worker w;
  open(&w);
  u64 bytes = pages * PAGE_BYTES;
  volatile u64 *a = user_malloc(&w.heap, bytes), *b = user_malloc(&w.heap, bytes);
  // Eight fills at a time into memory that is not there.
  for (u64 i = 0; i < pages; i += 8) {
    for (u64 k = i; k < i + 8 && k < pages; k++) {
      struct exerciser_descriptor d = {MODES, .opcode = OP_FILL, .destination = (u64)a + k * PAGE_BYTES, .length = PAGE_BYTES, .operand = pattern(pages, k)};
      user_submit(&w.queue, &d);
    }
    for (u64 k = i; k < i + 8 && k < pages; k++) note(&w, user_next(&w.queue));
  }
  for (u64 i = 0; i < bytes / 8; i++)
    if (a[i] != pattern(pages, i / 512)) close(&w, 2);
  // A copy to memory that is not there, and a comparison.
  struct exerciser_descriptor d = {MODES, .opcode = OP_COPY, .source = (u64)a, .destination = (u64)b, .length = (u32)bytes};
  if (run(&w, &d) != DONE_SUCCESS) close(&w, 3);
  d.opcode = OP_COMPARE;
  if (run(&w, &d) != DONE_SUCCESS) close(&w, 4);
  for (u64 i = 0; i < bytes / 8; i++)
    if (b[i] != a[i]) close(&w, 5);
  // Hart and device add to the same cell.
  volatile u64 *cell = user_malloc(&w.heap, 64);
  *cell = 40;
  struct exerciser_descriptor add = {MODES, .opcode = OP_FETCH_ADD, .destination = (u64)cell, .operand = 2, .operand_bytes = 8};
  if (run(&w, &add) != DONE_SUCCESS || *cell != 42) close(&w, 6);
  close(&w, 0);
}

#define PRESSED_PAGES 48u

void pressed_worker(u64 rounds) {
  struct worker w;
  open(&w);
  u64 base = (u64)user_malloc(&w.heap, PRESSED_PAGES * PAGE_BYTES);
  for (u64 round = 1; round <= rounds; round++)
    for (u64 i = 0; i < PRESSED_PAGES; i++) {
      u64 at = base + i * PAGE_BYTES;
      // The device adds one to the first word of each page, wherever the page is by now; the hart looks at every second.
      struct exerciser_descriptor add = {MODES, .opcode = OP_FETCH_ADD, .destination = at, .operand = i + 1, .operand_bytes = 8};
      if (run(&w, &add) != DONE_SUCCESS) close(&w, 3);
      if (i % 2 && *(volatile u64 *)at != round * (i + 1)) close(&w, 2);
      *(volatile u64 *)(at + 8) += 1;
    }
  for (u64 i = 0; i < PRESSED_PAGES; i++) {
    volatile u64 *page = (volatile u64 *)(base + i * PAGE_BYTES);
    if (page[0] != rounds * (i + 1) || page[1] != rounds) close(&w, 4);
  }
  close(&w, 0);
}

void reading_worker(u64 pages) {
  struct worker w;
  open(&w);
  u64 data = USER_FILE + (1 << 20), copy = (u64)user_malloc(&w.heap, pages * PAGE_BYTES);
  struct exerciser_descriptor d = {MODES, .opcode = OP_COPY, .source = data, .destination = copy, .length = (u32)(pages * PAGE_BYTES)};
  if (run(&w, &d) != DONE_SUCCESS) close(&w, 3);
  for (u64 i = 0; i < pages * 512; i++)
    if (((volatile u64 *)copy)[i] != ((volatile u64 *)data)[i]) close(&w, 2);
  // Files may be read only.
  d.opcode = OP_FILL, d.destination = data, d.length = 8;
  u32 status = run(&w, &d);
  w.reports[REPORT_ERROR] = status == DONE_PAGE_INVALID || status == DONE_NO_PERMISSION ? 0 : status + 1;
  close(&w, w.reports[REPORT_ERROR] ? 4 : 0);
}

void endless_worker(u64 argument) {
  struct worker w;
  open(&w);
  (void)argument;
  for (u64 i = 0;; i++) {
    struct exerciser_descriptor d = {MODES, .opcode = OP_FILL, .destination = USER_HEAP + (1 << 20) + i % 3000 * PAGE_BYTES, .length = 64, .operand = i};
    user_submit(&w.queue, &d);
    if (i >= 16) user_next(&w.queue);
  }
}
