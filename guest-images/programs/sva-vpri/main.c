// Devices work on the pointers of processes, in memory that is not there yet: page requests, the kernel's handler, the
// responses, the retries; under memory pressure; and with a process killed while its device waits for pages.
#include "clock.h"
#include "exerciser.h"
#include "iommu.h"
#include "machine.h"
#include "pages.h"
#include "parts.h"
#include "program.h"
#include "trap.h"

#define SWAP_AT (18ul << 20)
#define PRESSURE_LIMIT 64u
#define DISK_IOVA 0x1000000000ul

static struct exerciser x;
static struct process_directory directory;
static struct dma_space disk_space;
static struct nvme disk;
static struct user_process *owner[16];  // of the exerciser's queues

static u64 call(struct user_process *p, u64 number, const u64 *a) {
  if (number != CALL_OPEN_QUEUE) return 0;
  for (u32 queue = 1; queue < LENGTH(owner); queue++) {
    if (owner[queue] != NULL) continue;
    owner[queue] = p;
    exerciser_queue_open(&x, queue, p->pasid, MODE_PASID | MODE_ATS | MODE_PAGE_REQUEST, a[0], a[1]);
    return user_map_device(p, 0, exerciser_doorbells(&x, queue));
  }
  return 0;
}

static void finish(struct user_process *p) {
  user_stop(p);
  for (u32 queue = 1; queue < LENGTH(owner); queue++)
    if (owner[queue] == p) {
      exerciser_queue_close(&x, queue);
      owner[queue] = NULL;
    }
  // What the device has asked for is refused by now; its last question must be answered before the PASID goes.
  u64 deadline = clock_now() + clock_rate() / 10;
  while (exerciser_register(&x, EXERCISER_OUTSTANDING) != 0)
    REQUIRE(clock_now() < deadline, "%u page requests are left without an answer", exerciser_register(&x, EXERCISER_OUTSTANDING));
  user_destroy(p);
}

static void tell(const struct user_process *p) {
  const u64 *r = p->report;
  u64 misses = r[REPORT_MISSES], hits = r[REPORT_TRANSACTIONS] - misses;
  print("process: name=%s pasid=0x%x code=%u transactions=%lu bytes=%lu page_requests=%lu hart_faults=%u evicted=%u "
        "swapped_in=%u loaded=%u refused=%u miss_ns=%lu slowest_ns=%lu hit_ns=%lu\n",
        p->name, p->pasid, p->exit_code, r[REPORT_TRANSACTIONS], r[REPORT_BYTES], r[REPORT_PAGE_REQUESTS], p->hart_faults,
        p->evicted, p->swapped_in, p->loaded, p->refused, misses ? r[REPORT_MISS_NS] / misses : 0, r[REPORT_SLOWEST_NS],
        hits ? r[REPORT_HIT_NS] / hits : 0);
  print("histogram: name=%s", p->name);
  for (u32 i = 0; i < HISTOGRAM_BUCKETS; i++)
    print(i < HISTOGRAM_BUCKETS - 1 ? " below_%uus=%lu" : " above_%uus=%lu", i < HISTOGRAM_BUCKETS - 1 ? 2u << i : 1u << i,
          r[REPORT_HISTOGRAM + i]);
  print("\n");
  REQUIRE(p->exit_code == 0 && r[REPORT_ERROR] == 0, "%s ended with code %u, status %lu", p->name, p->exit_code, r[REPORT_ERROR]);
}

static void run_both(struct user_process *p, struct user_process *q) {
  user_run(NULL);
  tell(p);
  if (q != NULL) tell(q);
  finish(p);
  if (q != NULL) finish(q);
}

static u64 kill_at;
// From `kill_at` on no page request is looked at, so that all that the devices can have under way soon waits for one.
static bool is_time(void) {
  static bool is_held;
  if (clock_now() >= kill_at && !is_held) {
    is_held = true;
    page_requests_hold(true);
  }
  return clock_now() >= kill_at + clock_rate() / 1000;
}

// Where the guest's instructions go between a page request and its answer.
static u64 handler_instructions, handled;
static void on_request(const struct page_request *r) {
  u64 before = instructions_retired();
  user_page_request(r);
  handler_instructions += instructions_retired() - before;
  handled++;
}

void program(void) {
  machine_open();
  REQUIRE(pci_open() > 0, "no PCI function was found");
  REQUIRE(iommu_open(), "the machine has no IOMMU");
  struct pci_function *f = pci_find(EXERCISER_VENDOR, EXERCISER_DEVICE, 0), *n = pci_find_class(NVME_CLASS, 0);
  REQUIRE(f != NULL && n != NULL, "the machine lacks an exerciser or an NVMe controller");
  step("bring up the disk for the kernel, and the exerciser with a process directory, ATS and PRI");
  dma_space_open(&disk_space, "disk", n, DISK_IOVA);
  const char *wrong = nvme_open(&disk, n, &disk_space, 1, true);
  REQUIRE(wrong == NULL, "%s", wrong);
  wrong = exerciser_open(&x, f, 8);
  REQUIRE(wrong == NULL, "%s", wrong);
  u32 mode = process_mode_offered(PROCESS_DIRECTORY_20) ? PROCESS_DIRECTORY_20 : PROCESS_DIRECTORY_17;
  process_directory_open(&directory, f, mode, TRANSLATE_ATS | TRANSLATE_PRI | TRANSLATE_PRPR);
  REQUIRE(process_enable(f, ENABLE_PASID | ENABLE_ATS | ENABLE_PRI), "the exerciser lacks PASID, ATS or PRI");
  user_open(&disk, SWAP_AT, 1024, call);
  user_add_device(&directory, true);
  page_requests_open(8, on_request);

  step("two processes let the device fill, copy and compare 64 pages each that nobody has touched");
  run_both(user_create("first", lazy_worker, 64), user_create("second", lazy_worker, 64));
  print("handler: requests=%lu instructions_each=%lu\n", handled, handler_instructions / handled);
  u32 pages = pages_left();

  step("a process lets the device copy 32 pages of the disk from its own addresses");
  run_both(user_create("reader", reading_worker, 32), NULL);

  step("memory pressure: two working sets of 48 pages in %u pages of memory", PRESSURE_LIMIT);
  user_limit(PRESSURE_LIMIT);
  run_both(user_create("pressed", pressed_worker, 6), user_create("squeezed", pressed_worker, 6));
  print("reclaim: pages=%u\n", user_reclaimed());
  REQUIRE(user_reclaimed() > 100, "only %u pages were reclaimed", user_reclaimed());

  step("a queue of two records: most page requests find it full, and are answered by the IOMMU");
  user_limit(1024);
  page_requests_close();
  page_requests_open(1, on_request);
  struct user_process *p = user_create("crowded", lazy_worker, 64);
  user_run(NULL);
  tell(p);
  finish(p);
  print("overflow: times=%u\n", page_request_overflows());
  page_requests_close();
  page_requests_open(8, on_request);

  step("kill a process while its device waits for pages");
  struct user_process *victim = user_create("victim", endless_worker, 0);
  struct user_process *other = user_create("bystander", lazy_worker, 64);
  kill_at = clock_now() + clock_rate() / 1000;
  user_run(is_time);
  u32 outstanding = exerciser_register(&x, EXERCISER_OUTSTANDING);
  REQUIRE(outstanding != 0, "the victim's device waits for nothing");
  user_stop(victim);
  page_requests_hold(false);
  u32 pasid = victim->pasid;
  REQUIRE(victim->refused != 0, "no page request of the victim was refused");
  finish(victim);
  print("killed: pasid=0x%x outstanding=%u refused=%u\n", pasid, outstanding, victim->refused);
  user_run(NULL);
  tell(other);
  finish(other);

  struct iommu_fault fault;
  while (iommu_take_fault(&fault))
    print("fault: cause=%u (%s) iova=0x%lx\n", fault.cause, iommu_cause_name(fault.cause), fault.iotval);
  u32 left = pages_left();
  print("leaks: pages=%d outstanding=%u\n", (i32)(pages - left), exerciser_register(&x, EXERCISER_OUTSTANDING));
  REQUIRE(left == pages, "%d pages were not given back", (i32)(pages - left));
}
