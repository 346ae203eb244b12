#include "cards.h"
#include "exerciser.h"
#include "iommu.h"
#include "nic.h"
#include "nvme.h"
#include "program.h"

#define IOVA 0x3000000000ul
#define PAGES 16u
#define FRAME 512u

// What is behind each slot's card, by the slot's place in the list.
static struct work {
  struct dma_space space;
  struct dma_buffer buffer;
  struct exerciser exerciser;
  struct nvme nvme;
  struct nic nic;
} works[SLOTS_MAX];

static struct work *work_of(const struct slot *s) {
  u32 i = 0;
  while (slot_at(i) != s) i++;
  return &works[i];
}

static struct work *begin(struct slot *s, const char *name) {
  struct work *w = work_of(s);
  memset(w, 0, sizeof *w);
  dma_space_open(&w->space, name, &s->card, IOVA);
  dma_buffer_open(&w->buffer, &w->space, PAGES);
  return w;
}

void card_forget(struct slot *s) {
  struct work *w = work_of(s);
  if (!w->space.translated) return;
  *(volatile u64 *)iommu_context(w->space.device_id) = 0;
  iommu_invalidate_context(w->space.device_id);
  dma_buffer_close(&w->buffer);
}

static void exerciser_begin(struct slot *s) {
  struct work *w = begin(s, "exerciser");
  const char *wrong = exerciser_open(&w->exerciser, &s->card, 8);
  REQUIRE(wrong == NULL, "%s", wrong);
  struct exerciser_descriptor fill = {.opcode = OP_FILL, .destination = w->buffer.iova, .length = PAGES * PAGE_BYTES,
                                      .operand = 0x1122334455667788};
  REQUIRE(exerciser_run(&w->exerciser, fill).status == DONE_SUCCESS, "the exerciser's fill fails");
  for (u32 page = 0; page < PAGES; page++)
    REQUIRE(*(u64 *)dma_pointer(&w->buffer, page * PAGE_BYTES + 8) == fill.operand, "page %u was not filled", page);
}

static bool exerciser_work(struct slot *s) {
  struct work *w = work_of(s);
  struct exerciser *x = &w->exerciser;
  struct exerciser_completion c;
  u32 in_flight = x->submitted - x->completed;
  for (; in_flight < 8; in_flight++)
    exerciser_submit(x, &(struct exerciser_descriptor){.opcode = OP_FILL, .tag = x->submitted, .destination = w->buffer.iova,
                                                       .length = PAGES * PAGE_BYTES, .operand = x->submitted});
  // A card that was torn out answers with ones, which is no phase.
  return exerciser_take(x, &c, 1);
}

static void exerciser_end(struct slot *s) {
  struct exerciser *x = &work_of(s)->exerciser;
  struct exerciser_completion c;
  while (x->submitted != x->completed)
    REQUIRE(exerciser_take(x, &c, 1000) && c.status == DONE_SUCCESS, "a transaction does not end well");
  pci_bus_master(&s->card, false);
}

static void nvme_begin(struct slot *s) {
  struct work *w = begin(s, "nvme");
  const char *wrong = nvme_open(&w->nvme, &s->card, &w->space, 1, false);
  REQUIRE(wrong == NULL, "%s", wrong);
  u16 command = nvme_start(&w->nvme, 1, NVME_READ, 0, &w->buffer, 0, PAGES * PAGE_BYTES, 8);
  REQUIRE(nvme_wait(&w->nvme, 1, command) == NVME_SUCCESS, "a read of the disk fails");
  print("disk: serial=%s blocks=%lu crc32=0x%08x\n", w->nvme.serial, w->nvme.blocks,
        dma_crc32(&w->buffer, 0, PAGES * PAGE_BYTES));
}

static bool nvme_work(struct slot *s) {
  struct nvme *nvme = &work_of(s)->nvme;
  struct nvme_queue *q = &nvme->queue[1];
  u32 before = q->completed;
  while (q->submitted - q->completed < 8)
    nvme_start(nvme, 1, NVME_READ, 0, &work_of(s)->buffer, 0, PAGES * PAGE_BYTES, 16);
  nvme_poll(q);
  return q->completed != before;
}

static void nvme_end(struct slot *s) {
  struct nvme *nvme = &work_of(s)->nvme;
  REQUIRE(nvme_drain(nvme, 1) == NVME_SUCCESS, "a read of the disk fails");
  REQUIRE(nvme_close(nvme), "the NVMe controller does not stop");
  pci_bus_master(&s->card, false);
}

static void nic_begin(struct slot *s) {
  struct work *w = begin(s, "nic");
  const char *wrong = nic_open(&w->nic, "nic", &s->card, &w->space);
  REQUIRE(wrong == NULL, "%s", wrong);
  static u8 frame[FRAME];
  memset(frame, 0xff, 6);
  memcpy(frame + 6, w->nic.mac, 6);
  frame[12] = 0x88, frame[13] = 0xb5;
  nic_send(&w->nic, frame, FRAME);
  REQUIRE(nic_drain(&w->nic, 1000), "the card sends nothing");
}

static void nic_end(struct slot *s) {
  nic_close(&work_of(s)->nic);
  pci_bus_master(&s->card, false);
}

static const struct card exerciser_card = {"exerciser", exerciser_begin, exerciser_work, exerciser_end};
static const struct card nvme_card = {"nvme", nvme_begin, nvme_work, nvme_end};
static const struct card nic_card = {"nic", nic_begin, NULL, nic_end};

const struct card *card_of(const struct pci_function *f) {
  if (f->vendor == EXERCISER_VENDOR && f->device == EXERCISER_DEVICE) return &exerciser_card;
  if (f->class_code == NVME_CLASS) return &nvme_card;
  return f->vendor == NIC_VENDOR && f->device == NIC_DEVICE ? &nic_card : NULL;
}
