// Hostile processes and hostile drivers try every way out of what they were given; each attempt ends in its named fault.
#include "clock.h"
#include "dma.h"
#include "exerciser.h"
#include "imsic.h"
#include "iommu.h"
#include "machine.h"
#include "pages.h"
#include "parts.h"
#include "program.h"
#include "trap.h"

#define PASID 0x77u
#define IOVA 0x10000000ul
#define OUTSIDE 0x200000000000ul  // no memory, no device
#define PTE_LEAF 0xd7ul
#define DC_V 1ul
#define DC_PDTV 32ul
#define WITNESSES 32u

static struct exerciser x;
static struct process_directory directory;
static struct dma_space space;
static struct dma_buffer buffer;
static u64 witness[WITNESSES];
static u32 attempts;

static struct exerciser_descriptor fill(u64 at, u8 mode) {
  return (struct exerciser_descriptor){.opcode = OP_FILL, .destination = at, .length = 64, .operand = 0xbad,
                                       .destination_mode = mode, .destination_pasid = PASID};
}

// Runs a transaction that must fail, with a fault record of this cause where `cause` is not 0.
static void attempt(const char *name, struct exerciser_descriptor d, u32 cause) {
  struct iommu_fault f = {0};
  while (iommu_take_fault(&f));
  memset(&f, 0, sizeof f);
  struct exerciser_completion c = exerciser_run(&x, d);
  bool has_fault = iommu_wait_fault(&f, cause ? 20 : 1);
  print("attempt: name=\"%s\" status=\"%s\" cause=%u (%s) ttyp=%u iotval=0x%lx\n", name, exerciser_status_name(c.status),
        f.cause, has_fault ? iommu_cause_name(f.cause) : "no fault record", f.transaction, f.iotval);
  REQUIRE(c.status != DONE_SUCCESS, "%s: succeeded", name);
  REQUIRE(f.cause == cause, "%s: cause %u, not %u", name, f.cause, cause);
  attempts++;
}

static u64 *leaf_of(u64 iova) {
  u64 *table = space.root;
  for (u32 level = 2; level > 0; level--)
    table = (u64 *)((table[iova >> (12 + 9 * level) & 0x1ff] >> 10 & 0xfffffffffff) << 12);
  return table + (iova >> 12 & 0x1ff);
}

static void set_leaf(u64 value) {
  *(volatile u64 *)leaf_of(IOVA) = value;
  fence();
  iommu_invalidate_space(space.pscid);
}

// Writes the device context anew, by the book.
static void set_context(u64 control, u64 fsc) {
  u64 *context = iommu_context(x.function->rid);
  context[0] = 0;
  fence();
  iommu_invalidate_context(x.function->rid);
  for (u32 i = 1; i < iommu_context_words(); i++) context[i] = 0;
  context[3] = fsc;
  fence();
  context[0] = control;
  iommu_invalidate_context(x.function->rid);
}

static void set_process(u64 ta, u64 fsc) {
  u64 *context = (u64 *)process_context_address(&directory, PASID);
  context[0] = 0;
  fence();
  process_bind(&directory, PASID, (u64)space.root, space.pscid);
  context[1] = fsc;
  context[0] = ta;
  fence();
  iommu_invalidate_context(x.function->rid);
  iommu_invalidate_space(space.pscid);
}

static void tables_part(void) {
  const u8 mode = MODE_PASID;
  u64 good = *leaf_of(IOVA);
  step("page tables: pages and tables outside memory, malformed entries, rights that are missing");
  set_leaf(OUTSIDE >> 2 | PTE_LEAF);
  attempt("a page outside memory", fill(IOVA, mode), 7);
  set_leaf(0x10000000ul >> 2 | PTE_LEAF);
  attempt("a page over the UART", fill(IOVA, mode), 7);
  set_leaf((good & ~0xfful) | 0xd1);
  attempt("a leaf without rights", fill(IOVA, mode), 15);
  set_leaf((good & ~0xfful) | 0xd5);
  attempt("a leaf that can be written but not read", fill(IOVA, mode), 15);
  set_leaf(good | 1ul << 54);
  attempt("a leaf with a reserved bit", fill(IOVA, mode), 15);
  set_leaf(good & ~4ul);
  attempt("a write to a page for reading", fill(IOVA, mode), 15);
  set_leaf(good & ~16ul);
  attempt("a page of the supervisor", fill(IOVA, mode), 15);
  set_leaf(good);
  struct exerciser_descriptor fetch = {.opcode = OP_READ, .source = IOVA, .length = 8, .source_mode = MODE_PASID | MODE_EXECUTE, .source_pasid = PASID};
  attempt("an instruction from a page of data", fetch, 12);
  attempt("an address beyond Sv39", fill(1ul << 45, mode), 15);
  u64 *entry = space.root + (IOVA >> 30), table = *entry;
  *(volatile u64 *)entry = OUTSIDE >> 2 | 1;
  iommu_invalidate_space(space.pscid);
  attempt("a table outside memory", fill(IOVA, mode), 7);
  *(volatile u64 *)entry = table;
  iommu_invalidate_space(space.pscid);
  REQUIRE(exerciser_run(&x, fill(IOVA, mode)).status == DONE_SUCCESS, "nothing goes when all is right again");
}

static void contexts_part(void) {
  u64 fsc = 8ul << 60 | (u64)space.root >> 12, ta = 1 | (u64)space.pscid << 12;
  u64 pdtp = (u64)directory.mode << 60 | directory.root >> 12;
  step("contexts: PASIDs without one, reserved bits, directories outside memory");
  struct exerciser_descriptor other = fill(IOVA, MODE_PASID);
  other.destination_pasid = PASID + 1;
  attempt("a PASID without a context", other, 266);
  set_process(ta, 5ul << 60 | fsc);
  attempt("a process context with an unknown mode", fill(IOVA, MODE_PASID), 267);
  set_process(ta | 1ul << 40, fsc);
  attempt("a process context with a reserved bit", fill(IOVA, MODE_PASID), 267);
  set_process(ta, 8ul << 60 | OUTSIDE >> 12);
  attempt("a root table outside memory", fill(IOVA, MODE_PASID), 7);
  set_process(ta, fsc);
  attempt("a privileged request where there is no supervisor", fill(IOVA, MODE_PASID | MODE_PRIVILEGED), 260);
  set_context(DC_V | DC_PDTV, (u64)directory.mode << 60 | OUTSIDE >> 12);
  attempt("a process directory outside memory", fill(IOVA, MODE_PASID), 265);
  set_context(DC_V | DC_PDTV | 1ul << 30, pdtp);
  attempt("a device context with a reserved bit", fill(IOVA, MODE_PASID), 259);
  set_context(DC_V | DC_PDTV | TRANSLATE_PRI, pdtp);
  attempt("a device context with PRI but without ATS", fill(IOVA, MODE_PASID), 259);
  set_context(0, pdtp);
  attempt("no device context", fill(IOVA, MODE_PASID), 258);
  set_context(DC_V, 0);
  attempt("a PASID where there is no process directory", fill(IOVA, MODE_PASID), 260);
  set_context(DC_V | DC_PDTV, pdtp);
  // Without a default such a request has no first stage (2.3): it reaches the guest's memory, but nothing else.
  attempt("a request without a PASID to what is no memory", fill(IOVA, 0), 7);
  REQUIRE(exerciser_run(&x, fill(IOVA, MODE_PASID)).status == DONE_SUCCESS, "nothing goes when all is right again");
}

static void forged_part(void) {
  u64 pdtp = (u64)directory.mode << 60 | directory.root >> 12;
  step("forged translated addresses, and a message to an interrupt file that is not mapped");
  attempt("a translated address without ATS", fill(witness[0], MODE_TRANSLATED), 260);
  set_context(DC_V | DC_PDTV | TRANSLATE_ATS, pdtp);
  attempt("a translated address outside memory", fill(OUTSIDE, MODE_TRANSLATED), 7);
  set_context(DC_V | DC_PDTV, pdtp);
  u64 before = imsic_count();
  struct exerciser_descriptor message = fill(imsic_address(), MODE_PASID);
  message.length = 4, message.operand = 1;
  attempt("a message to the interrupt file", message, 15);
  REQUIRE(imsic_count() == before + 1 || imsic_count() == before, "interrupts came");
}

static void race_part(void) {
  u64 good = *leaf_of(IOVA), bad = OUTSIDE >> 2 | PTE_LEAF;
  u32 passed = 0, refused = 0;
  step("the tables change while the device walks them");
  for (u32 round = 0; round < 50; round++) {
    for (u32 i = 0; i < 8; i++) {
      struct exerciser_descriptor d = fill(IOVA, MODE_PASID);
      d.tag = i;
      exerciser_submit(&x, &d);
    }
    for (u32 i = 0; i < 200; i++) *(volatile u64 *)leaf_of(IOVA) = i & 1 ? bad : i & 2 ? 0 : good;
    iommu_invalidate_space(space.pscid);
    struct exerciser_completion c;
    for (u32 i = 0; i < 8; i++) {
      REQUIRE(exerciser_take(&x, &c, 100), "a transaction hangs");
      if (c.status == DONE_SUCCESS) passed++;
      else refused++;
    }
  }
  set_leaf(good);
  struct iommu_fault f;
  u32 faults = 0;
  while (iommu_wait_fault(&f, 1)) faults++;
  print("race: passed=%u refused=%u faults=%u\n", passed, refused, faults);
  REQUIRE(refused != 0, "nothing was refused");
}

static struct user_process *queue_owner;

static u64 call(struct user_process *p, u64 number, const u64 *a) {
  if (number != CALL_OPEN_QUEUE || queue_owner != NULL) return 0;
  queue_owner = p;
  exerciser_queue_open(&x, 1, p->pasid, MODE_PASID | MODE_ATS | MODE_PAGE_REQUEST, a[0], a[1]);
  return user_map_device(p, 0, exerciser_doorbells(&x, 1));
}

static void processes_part(void) {
  step("a process with a queue of its own against another process and the kernel");
  struct process_directory mine;
  process_directory_close(&directory);
  process_directory_open(&mine, x.function, PROCESS_DIRECTORY_20, TRANSLATE_ATS | TRANSLATE_PRI | TRANSLATE_PRPR);
  REQUIRE(process_enable(x.function, ENABLE_PASID | ENABLE_ATS | ENABLE_PRI), "the exerciser lacks ATS or PRI");
  user_open(NULL, 0, 1024, call);
  user_add_device(&mine, true);
  page_requests_open(6, user_page_request);
  struct user_process *v = user_create("victim", victim, 0);
  user_run(NULL);
  struct user_process *p = user_create("attacker", attacker, v->pasid);
  user_run(NULL);
  static const char *const names[ATTEMPTS] = {"write with the victim's PASID", "read with the victim's PASID",
                                              "write to the kernel", "a translated address", "a stop marker"};
  for (u32 i = 0; i < ATTEMPTS; i++) {
    print("owned: attempt=\"%s\" status=\"%s\"\n", names[i], exerciser_status_name((u32)p->report[i]));
    REQUIRE(p->report[i] != DONE_SUCCESS, "%s succeeded", names[i]);
    attempts++;
  }
  REQUIRE(p->report[3] == DONE_FORBIDDEN && p->report[4] == DONE_FORBIDDEN, "an owned queue sends what it may not");
  REQUIRE(*(u64 *)user_physical(v, VICTIM_AT) == SECRET, "the victim's secret has changed");
  exerciser_queue_close(&x, 1);
  struct iommu_fault f;
  while (iommu_wait_fault(&f, 1)) {
    print("fault: cause=%u (%s) pasid=0x%x iova=0x%lx\n", f.cause, iommu_cause_name(f.cause), f.pasid, f.iotval);
    REQUIRE(f.pasid == p->pasid, "a fault of PASID 0x%x", f.pasid);
  }
  user_stop(p);
  user_destroy(p);
  user_destroy(v);
}

void program(void) {
  machine_open();
  REQUIRE(pci_open() > 0, "no PCI function was found");
  REQUIRE(iommu_open(), "the machine has no IOMMU");
  struct pci_function *f = pci_find(EXERCISER_VENDOR, EXERCISER_DEVICE, 0);
  REQUIRE(f != NULL, "the machine has no exerciser");
  const char *wrong = exerciser_open(&x, f, 8);
  REQUIRE(wrong == NULL, "%s", wrong);
  for (u32 i = 0; i < WITNESSES; i++) {
    witness[i] = page_take();
    memset((void *)witness[i], 0xa7, PAGE_BYTES);
  }
  step("one process on the exerciser, as it should be");
  process_directory_open(&directory, f, PROCESS_DIRECTORY_20, 0);
  dma_space_open_process(&space, "process", f, IOVA);
  dma_buffer_open(&buffer, &space, 1);
  process_bind(&directory, PASID, (u64)space.root, space.pscid);
  REQUIRE(process_enable(f, ENABLE_PASID | ENABLE_ATS), "the exerciser lacks PASIDs or ATS");
  REQUIRE(exerciser_run(&x, fill(IOVA, MODE_PASID)).status == DONE_SUCCESS, "the good transaction fails");
  tables_part();
  contexts_part();
  forged_part();
  race_part();
  processes_part();
  for (u32 i = 0; i < WITNESSES; i++)
    for (u32 k = 0; k < PAGE_BYTES; k++) REQUIRE(((u8 *)witness[i])[k] == 0xa7, "memory changed that nobody was shown");
  print("isolation: attempts=%u witnesses=%u\n", attempts, WITNESSES);
}
