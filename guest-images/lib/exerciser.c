#include "exerciser.h"
#include "clock.h"
#include "program.h"

#define ID 0x00
#define CONTROL_RESET 1u
#define QUEUE(q) (0x1000 + 0x100 * (q))
#define QCONTROL 0x00
#define QATTRIBUTES 0x04
#define QBASE_LO 0x08
#define QBASE_HI 0x0c
#define QCOMPLETION_LO 0x10
#define QCOMPLETION_HI 0x14
#define QSTATUS 0x1c
#define DOORBELLS(q) (0x10000 + 0x1000 * (q))
#define TAIL 0x0
#define COMPLETION_HEAD 0x4

#define ENABLE 1u
#define RINGS_LOCAL 6u
#define ORDERED 8u
#define OWNED 16u
#define RING_64 (6u << 16 | 6u << 20)

#define RING 0x8000u
#define COMPLETIONS 0xc000u
#define ENTRIES 64u

static void set(const struct exerciser *x, u32 offset, u32 value) { mmio_write32(x->registers + offset, value); }
u32 exerciser_register(const struct exerciser *x, u32 offset) { return mmio_read32(x->registers + offset); }

const char *exerciser_status_name(u32 status) {
  static const char *const names[] = {"success",       "unsupported request", "completer abort", "mismatch",
                                      "invalid descriptor", "not enabled",    "no permission",   "page invalid",
                                      "page failure",  "no credits",          "not supported",   "forbidden",
                                      "retries"};
  return status < LENGTH(names) ? names[status] : "other status";
}

const char *exerciser_open(struct exerciser *x, const struct pci_function *f, u32 parallel) {
  memset(x, 0, sizeof *x);
  x->function = f;
  x->registers = f->bar[0];
  x->local = f->bar[2];
  if (exerciser_register(x, ID) != 0x52455845) return "the exerciser has another identification";
  pci_bus_master(f, true);
  set(x, EXERCISER_CONTROL, CONTROL_RESET);
  memset((void *)(x->local + COMPLETIONS), 0, ENTRIES * 64);
  set(x, QUEUE(0) + QBASE_LO, RING);
  set(x, QUEUE(0) + QBASE_HI, 0);
  set(x, QUEUE(0) + QCOMPLETION_LO, COMPLETIONS);
  set(x, QUEUE(0) + QCOMPLETION_HI, 0);
  set(x, QUEUE(0) + QCONTROL, ENABLE | RINGS_LOCAL | RING_64 | parallel << 8);
  return (exerciser_register(x, QUEUE(0) + QSTATUS) & 0xf1) == 1 ? NULL : "queue 0 of the exerciser does not start";
}

void exerciser_submit(struct exerciser *x, const struct exerciser_descriptor *descriptor) {
  REQUIRE(x->submitted - x->completed < ENTRIES - 1, "too many transactions for the exerciser's ring");
  memcpy((void *)(x->local + RING + x->submitted % ENTRIES * 64), descriptor, 64);
  x->submitted++;
  set(x, DOORBELLS(0) + TAIL, x->submitted % ENTRIES);
}

static volatile struct exerciser_completion *next(struct exerciser *x) {
  return (volatile void *)(x->local + COMPLETIONS + x->completed % ENTRIES * 64);
}

static bool has_completion(void *context) {
  struct exerciser *x = context;
  return next(x)->phase == ((x->completed / ENTRIES + 1) & 1);
}

bool exerciser_take(struct exerciser *x, struct exerciser_completion *completion, u64 milliseconds) {
  u64 deadline = clock_now() + milliseconds * (clock_rate() / 1000);
  while (!has_completion(x))
    if (clock_now() > deadline) return false;
  fence();
  memcpy(completion, (void *)next(x), 64);
  x->completed++;
  set(x, DOORBELLS(0) + COMPLETION_HEAD, x->completed % ENTRIES);
  return true;
}

struct exerciser_completion exerciser_run(struct exerciser *x, struct exerciser_descriptor descriptor) {
  struct exerciser_completion completion;
  descriptor.tag = x->submitted + 1;
  exerciser_submit(x, &descriptor);
  REQUIRE(exerciser_take(x, &completion, 1000), "the exerciser completes nothing; queue status 0x%x",
          exerciser_register(x, QUEUE(0) + QSTATUS));
  REQUIRE(completion.tag == descriptor.tag, "the exerciser completes tag %u, not %u", completion.tag, descriptor.tag);
  return completion;
}

void exerciser_queue_open(struct exerciser *x, u32 queue, u32 pasid, u8 mode, u64 ring, u64 completions) {
  set(x, QUEUE(queue) + QATTRIBUTES, (u32)mode << 24 | pasid);
  set(x, QUEUE(queue) + QBASE_LO, (u32)ring);
  set(x, QUEUE(queue) + QBASE_HI, (u32)(ring >> 32));
  set(x, QUEUE(queue) + QCOMPLETION_LO, (u32)completions);
  set(x, QUEUE(queue) + QCOMPLETION_HI, (u32)(completions >> 32));
  set(x, QUEUE(queue) + QCONTROL, ENABLE | OWNED | ORDERED | RING_64 | 8u << 8);
}

void exerciser_queue_close(struct exerciser *x, u32 queue) { set(x, QUEUE(queue) + QCONTROL, 0); }
u32 exerciser_queue_status(const struct exerciser *x, u32 queue) {
  return exerciser_register(x, QUEUE(queue) + QSTATUS);
}
u64 exerciser_doorbells(const struct exerciser *x, u32 queue) { return x->registers + DOORBELLS(queue); }
