// Page requests of a device that works on a process's pointers to memory nobody has touched: how many a second, and what
// each costs the guest. Boot arguments: rounds=4 pages=3000.
#include "clock.h"
#include "exerciser.h"
#include "iommu.h"
#include "machine.h"
#include "pages.h"
#include "program.h"
#include "trap.h"
#include "user-side.h"
#include "user.h"

#define CALL_OPEN_QUEUE USER_FIRST_OWN
#define RESIDENT_LIMIT 4096u
#define BYTES 64u

#define REPORT_FILLS 0         // pages that were asked for and used
#define REPORT_PAGE_REQUESTS 1
#define REPORT_INSTRUCTIONS 2  // of the hart, from the first fill to the last completion
#define REPORT_LATENCY_NS 3    // of the fills, added
#define REPORT_ERROR 4         // first status that is not success, plus 1
#define REPORT_WRONG 5         // pages that do not hold what they were filled with

static struct exerciser x;
static struct process_directory directory;

static u64 call(struct user_process *p, u64 number, const u64 *a) {
  if (number != CALL_OPEN_QUEUE) return 0;
  exerciser_queue_open(&x, 1, p->pasid, MODE_PASID | MODE_ATS | MODE_PAGE_REQUEST, a[0], a[1]);
  return user_map_device(p, 0, exerciser_doorbells(&x, 1));
}

struct worker {
  struct user_heap heap;
  struct user_queue queue;
  u64 reports[6];
};

static void open(struct worker *w) {
  for (u32 i = 0; i < LENGTH(w->reports); i++) ((volatile u64 *)w->reports)[i] = 0;
  w->heap.next = 0;
  w->queue.ring = user_malloc(&w->heap, USER_QUEUE_ENTRIES * 64);
  w->queue.completions = user_malloc(&w->heap, USER_QUEUE_ENTRIES * 64);
  w->queue.submitted = w->queue.completed = 0;
  w->queue.doorbell = (volatile u32 *)user_call(CALL_OPEN_QUEUE, (u64)w->queue.ring, (u64)w->queue.completions, 0);
  if (w->queue.doorbell == NULL) user_exit(1);
}

static void fill(struct worker *w, u64 at, u64 page, u32 length) {
  struct exerciser_descriptor d = {.source_mode = MODE_ATS | MODE_PAGE_REQUEST, .destination_mode = MODE_ATS | MODE_PAGE_REQUEST,
                                   .opcode = OP_FILL, .destination = at, .length = length, .operand = ~page};
  user_submit(&w->queue, &d);
}

static void take(struct worker *w, bool is_counted) {
  volatile struct exerciser_completion *c = user_next(&w->queue);
  if (c->status != DONE_SUCCESS && w->reports[REPORT_ERROR] == 0) w->reports[REPORT_ERROR] = c->status + 1u;
  if (!is_counted) return;
  w->reports[REPORT_PAGE_REQUESTS] += c->page_requests;
  w->reports[REPORT_LATENCY_NS] += c->latency_ns;
}

// In U-mode. Bits 15:0 of the argument: transactions in flight; 31:16: pages that each asks for; above: pages.
static void worker(u64 argument) {
  struct worker w;
  open(&w);
  u64 depth = argument & 0xffff, group = argument >> 16 & 0xffff, pages = argument >> 32;
  u64 base = USER_HEAP + 4 * PAGE_BYTES, begin = 0;
  if (group == 1) {
    // The first ones make the rings' own pages come, too.
    for (u64 sent = 0, done = 0; done < pages; done++) {
      if (done == depth) begin = instructions_retired();
      for (; sent < pages && sent - done < depth; sent++) fill(&w, base + sent * PAGE_BYTES, sent, BYTES);
      take(&w, done >= depth);
      if (done >= depth) w.reports[REPORT_FILLS]++;
    }
  } else {
    // Groups of page requests, and when they are answered, the access.
    for (u64 done = 0; done + depth * group <= pages; done += depth * group) {
      if (done == depth * group) begin = instructions_retired();
      for (u64 i = 0; i < depth; i++) {
        struct exerciser_descriptor d = {.source_mode = MODE_ATS, .opcode = OP_PAGE_REQUEST, .source = base + (done + i * group) * PAGE_BYTES,
                                         .pages = (u32)group, .group = (u16)(256 + i), .page_flags = PAGE_READ | PAGE_WRITE | PAGE_LAST};
        user_submit(&w.queue, &d);
      }
      for (u64 i = 0; i < depth; i++) take(&w, done > 0);
      for (u64 i = 0; i < depth * group; i += group) fill(&w, base + (done + i) * PAGE_BYTES, done + i, BYTES);
      for (u64 i = 0; i < depth; i++) take(&w, done > 0);
      if (done > 0) w.reports[REPORT_FILLS] += depth * group;
    }
  }
  w.reports[REPORT_INSTRUCTIONS] = instructions_retired() - begin;
  for (u64 i = 0; i + depth * group <= pages; i += group)
    if (*(volatile u64 *)(base + i * PAGE_BYTES) != ~i) w.reports[REPORT_WRONG]++;
  for (u32 i = 0; i < LENGTH(w.reports); i++) user_report(i, w.reports[i]);
  user_exit(0);
}

static void measure(u64 depth, u64 group, u64 pages, u64 rounds) {
  u64 sum[6] = {0}, asked = 0;
  print("bench: event=begin name=vpri depth=%lu group=%lu\n", depth, group);
  for (u64 round = 0; round < rounds; round++) {
    struct user_process *p = user_create("bench", worker, pages << 32 | group << 16 | depth);
    user_run(NULL);
    REQUIRE(p->exit_code == 0 && p->report[REPORT_ERROR] == 0, "the process ended with code %u, status %lu", p->exit_code,
            p->report[REPORT_ERROR]);
    REQUIRE(p->report[REPORT_WRONG] == 0, "%lu pages were not filled", p->report[REPORT_WRONG]);
    for (u32 i = 0; i < LENGTH(sum); i++) sum[i] += p->report[i];
    asked += p->device_requests;
    user_stop(p);
    exerciser_queue_close(&x, 1);
    user_destroy(p);
  }
  REQUIRE(sum[REPORT_FILLS] > 0 && sum[REPORT_PAGE_REQUESTS] >= sum[REPORT_FILLS], "%lu pages were asked for by %lu requests",
          sum[REPORT_FILLS], sum[REPORT_PAGE_REQUESTS]);
  print("bench: event=end name=vpri depth=%lu group=%lu requests=%lu pages=%lu instructions=%lu latency_ns=%lu\n", depth, group,
        asked, sum[REPORT_FILLS], sum[REPORT_INSTRUCTIONS] / sum[REPORT_FILLS], sum[REPORT_LATENCY_NS] / sum[REPORT_FILLS]);
}

void program(void) {
  machine_open();
  REQUIRE(pci_open() > 0, "no PCI function was found");
  REQUIRE(iommu_open(), "the machine has no IOMMU");
  struct pci_function *f = pci_find(EXERCISER_VENDOR, EXERCISER_DEVICE, 0);
  REQUIRE(f != NULL, "the machine lacks an exerciser");
  u64 pages = argument("pages", 3000), rounds = argument("rounds", 4);
  REQUIRE(pages > 64 && (pages + 4) * PAGE_BYTES <= USER_HEAP_BYTES, "pages=%lu is not 65 … 4092", pages);
  const char *wrong = exerciser_open(&x, f, 16);
  REQUIRE(wrong == NULL, "%s", wrong);
  process_directory_open(&directory, f, PROCESS_DIRECTORY_20, TRANSLATE_ATS | TRANSLATE_PRI | TRANSLATE_PRPR);
  REQUIRE(process_enable(f, ENABLE_PASID | ENABLE_ATS | ENABLE_PRI), "the exerciser lacks PASID, ATS or PRI");
  user_open(NULL, 0, RESIDENT_LIMIT, call);
  user_add_device(&directory, true);
  page_requests_open(8, user_page_request);
  measure(1, 1, pages, rounds);
  measure(16, 1, pages, rounds);
  measure(4, 8, pages, rounds);
}
