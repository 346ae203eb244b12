#include "nvme.h"
#include "clock.h"
#include "imsic.h"
#include "program.h"

// Controller registers (3.1).
#define CAP 0x00
#define CC 0x14
#define CSTS 0x1c
#define AQA 0x24
#define ASQ 0x28
#define ACQ 0x30
#define DOORBELLS 0x1000

#define CAP_MQES(cap) ((u32)((cap) & 0xffff) + 1)
#define CAP_TIMEOUT_MS(cap) (((cap) >> 24 & 0xff) * 500)
#define CAP_STRIDE(cap) (4ul << ((cap) >> 32 & 15))
#define CC_ENABLE 1u
#define CC_ENTRY_SIZES (4u << 20 | 6u << 16)  // 16-byte completions, 64-byte submissions
#define CSTS_READY 1u
#define CSTS_FATAL 2u

// Admin commands (5) and their operands.
#define ADMIN_CREATE_SQ 0x01
#define ADMIN_CREATE_CQ 0x05
#define ADMIN_IDENTIFY 0x06
#define ADMIN_SET_FEATURES 0x09
#define IDENTIFY_NAMESPACE 0
#define IDENTIFY_CONTROLLER 1
#define FEATURE_QUEUES 7
#define QUEUE_CONTIGUOUS 1u
#define QUEUE_INTERRUPTS 2u

#define WAIT_MS 10000
#define PRPS_A_LIST 512u

struct raw_completion {
  u32 result, reserved;
  u16 sq_head, sq_id, id, status;
};

static u64 doorbell(struct nvme_queue *q, u32 completion) {
  return q->nvme->registers + DOORBELLS + (2 * q->id + completion) * q->nvme->doorbell_stride;
}

u32 nvme_poll(struct nvme_queue *q) {
  u32 found = 0;
  for (;;) {
    volatile struct raw_completion *c = (volatile void *)dma_pointer(&q->completions, q->head * 16);
    u16 status = c->status;
    if ((status & 1) != q->phase) break;
    fence();
    u16 id = c->id;
    if (id < NVME_QUEUE_ENTRIES && q->slot[id].in_flight) {
      q->slot[id].result = c->result;
      q->slot[id].status = status >> 1 & 0x7ff;
      q->slot[id].in_flight = false;
      if (q->slot[id].status != NVME_SUCCESS && q->first_error == NVME_SUCCESS) q->first_error = q->slot[id].status;
      q->completed++;
    }
    found++;
    if (++q->head == q->entries) q->head = 0, q->phase ^= 1;
  }
  if (found != 0) mmio_write32(doorbell(q, 1), q->head);
  return found;
}

static void on_completion(void *context) {
  struct nvme_queue *q = context;
  q->nvme->interrupts++;
  nvme_poll(q);
}

struct waiting {
  struct nvme_queue *queue;
  u32 slot, depth;
};

static bool slot_done(void *context) {
  struct waiting *w = context;
  if (w->queue->nvme->polled) nvme_poll(w->queue);
  return !w->queue->slot[w->slot].in_flight;
}

static bool below_depth(void *context) {
  struct waiting *w = context;
  if (w->queue->nvme->polled) nvme_poll(w->queue);
  return w->queue->submitted - w->queue->completed < w->depth;
}

// Polled queues spin; the others sleep until an interrupt.
static bool wait(struct nvme *nvme, bool (*done)(void *), struct waiting *w) {
  if (!nvme->polled) return wait_until(done, w, WAIT_MS);
  u64 deadline = clock_now() + clock_rate() / 1000 * WAIT_MS;
  while (!done(w))
    if (clock_now() > deadline) return false;
  return true;
}

// A command identifier that is not in flight; waits until fewer than `depth` are.
static u16 take_slot(struct nvme_queue *q, u32 depth) {
  struct waiting w = {q, 0, MIN(depth, q->entries - 1)};
  REQUIRE(wait(q->nvme, below_depth, &w), "NVMe queue %u: no completion in %u ms", q->id, WAIT_MS);
  while (q->slot[q->next_slot].in_flight) q->next_slot = (q->next_slot + 1) % NVME_QUEUE_ENTRIES;
  u16 id = (u16)q->next_slot;
  q->next_slot = (q->next_slot + 1) % NVME_QUEUE_ENTRIES;
  return id;
}

static u16 submit(struct nvme_queue *q, u16 id, struct nvme_command *command) {
  q->slot[id].in_flight = true;
  q->submitted++;
  command->id = id;
  dma_copy_in(&q->submissions, q->tail * 64, command, 64);
  if (++q->tail == q->entries) q->tail = 0;
  mmio_write32(doorbell(q, 0), q->tail);
  return id;
}

u16 nvme_wait(struct nvme *nvme, u32 queue, u16 id) {
  struct nvme_queue *q = &nvme->queue[queue];
  struct waiting w = {q, id, 0};
  if (!wait(nvme, slot_done, &w)) return NVME_TIMEOUT;
  return q->slot[id].status;
}

static void queue_open(struct nvme *nvme, u32 id, u32 entries) {
  struct nvme_queue *q = &nvme->queue[id];
  q->nvme = nvme;
  q->id = id;
  q->entries = entries;
  q->phase = 1;
  dma_buffer_open(&q->submissions, nvme->space, 1);
  dma_buffer_open(&q->completions, nvme->space, 1);
  dma_buffer_open(&q->lists, nvme->space, id == 0 ? 1 : NVME_QUEUE_ENTRIES);
  // One vector a queue.
  if (!nvme->polled) msix_route(nvme->function, id, dma_msi_address(nvme->space), imsic_take(on_completion, q));
}

u16 nvme_submit(struct nvme *nvme, u32 queue, const struct nvme_command *command) {
  struct nvme_queue *q = &nvme->queue[queue];
  struct nvme_command copy = *command;
  return submit(q, take_slot(q, q->entries), &copy);
}

u16 nvme_run(struct nvme *nvme, u32 queue, const struct nvme_command *command, u32 *result) {
  u16 id = nvme_submit(nvme, queue, command), status = nvme_wait(nvme, queue, id);
  if (result != NULL) *result = nvme->queue[queue].slot[id].result;
  return status;
}

static u16 admin(struct nvme *nvme, struct nvme_command command) {
  struct nvme_queue *q = &nvme->queue[0];
  return nvme_wait(nvme, 0, submit(q, take_slot(q, q->entries), &command));
}

const char *nvme_queue_open(struct nvme *nvme, u32 id, u32 entries) {
  queue_open(nvme, id, entries);
  struct nvme_queue *q = &nvme->queue[id];
  u32 flags = QUEUE_CONTIGUOUS | (nvme->polled ? 0 : QUEUE_INTERRUPTS | id << 16);
  struct nvme_command cq = {.opcode = ADMIN_CREATE_CQ, .prp1 = q->completions.iova, .word10 = (entries - 1) << 16 | id};
  cq.word11 = flags;
  if (admin(nvme, cq) != NVME_SUCCESS) return "the NVMe controller refuses a completion queue";
  struct nvme_command sq = {.opcode = ADMIN_CREATE_SQ, .prp1 = q->submissions.iova, .word10 = (entries - 1) << 16 | id};
  sq.word11 = QUEUE_CONTIGUOUS | id << 16;
  if (admin(nvme, sq) != NVME_SUCCESS) return "the NVMe controller refuses a submission queue";
  return NULL;
}

static bool settled(struct nvme *nvme, u32 ready, u64 milliseconds) {
  u64 deadline = clock_now() + milliseconds * (clock_rate() / 1000);
  for (;;) {
    u32 status = mmio_read32(nvme->registers + CSTS);
    if ((status & CSTS_READY) == ready) return true;
    if ((ready && (status & CSTS_FATAL)) || clock_now() > deadline) return false;
  }
}

bool nvme_close(struct nvme *nvme) {
  u64 cap = mmio_read64(nvme->registers + CAP);
  mmio_write32(nvme->registers + CC, 0);
  return settled(nvme, 0, CAP_TIMEOUT_MS(cap) + 500);
}

// Copies a space-padded field of Identify data as a C string.
static void text_field(char *to, const u8 *from, u32 bytes) {
  memcpy(to, from, bytes);
  while (bytes > 0 && to[bytes - 1] == ' ') bytes--;
  to[bytes] = 0;
}

static const char *identify(struct nvme *nvme, struct dma_buffer *data) {
  struct nvme_command controller = {.opcode = ADMIN_IDENTIFY, .prp1 = data->iova, .word10 = IDENTIFY_CONTROLLER};
  if (admin(nvme, controller) != NVME_SUCCESS) return "NVMe Identify controller fails";
  const u8 *bytes = dma_pointer(data, 0);
  text_field(nvme->serial, bytes + 4, 20);
  text_field(nvme->model, bytes + 24, 40);
  // MDTS is a power of two of the smallest page; 0 is "no limit", which one list of PRPs is.
  u32 mdts = bytes[77], limit = (PRPS_A_LIST + 1) / 2 * (u32)PAGE_BYTES;
  nvme->transfer_bytes = mdts == 0 || mdts > 8 ? limit : MIN(limit, (u32)PAGE_BYTES << mdts);
  struct nvme_command space = {.opcode = ADMIN_IDENTIFY, .namespace_id = 1, .prp1 = data->iova};
  if (admin(nvme, space) != NVME_SUCCESS) return "NVMe Identify namespace 1 fails";
  nvme->blocks = *(u64 *)bytes;
  u32 format = *(u32 *)(bytes + 128 + 4 * (bytes[26] & 15));
  nvme->block_bytes = 1u << (format >> 16 & 0xff);
  return nvme->blocks == 0 ? "the NVMe controller has no namespace 1" : NULL;
}

const char *nvme_open(struct nvme *nvme, struct pci_function *function, struct dma_space *space, u32 io_queues,
                      bool polled) {
  memset(nvme, 0, sizeof *nvme);
  nvme->function = function;
  nvme->space = space;
  nvme->registers = function->bar[0];
  nvme->polled = polled;
  pci_bus_master(function, true);
  if (!polled && function->msix_table == 0) return "the NVMe controller has no MSI-X";
  u64 cap = mmio_read64(nvme->registers + CAP);
  nvme->doorbell_stride = CAP_STRIDE(cap);
  if (!nvme_close(nvme)) return "the NVMe controller does not stop";

  u32 entries = MIN(CAP_MQES(cap), NVME_QUEUE_ENTRIES);
  queue_open(nvme, 0, MIN(entries, 32u));
  if (!polled) msix_on(function);
  mmio_write32(nvme->registers + AQA, (nvme->queue[0].entries - 1) << 16 | (nvme->queue[0].entries - 1));
  mmio_write64(nvme->registers + ASQ, nvme->queue[0].submissions.iova);
  mmio_write64(nvme->registers + ACQ, nvme->queue[0].completions.iova);
  mmio_write32(nvme->registers + CC, CC_ENTRY_SIZES | CC_ENABLE);
  if (!settled(nvme, CSTS_READY, CAP_TIMEOUT_MS(cap) + 500)) return "the NVMe controller does not become ready";

  struct dma_buffer data;
  dma_buffer_open(&data, space, 1);
  const char *wrong = identify(nvme, &data);
  dma_buffer_close(&data);
  if (wrong != NULL) return wrong;

  io_queues = MIN(io_queues, NVME_IO_QUEUES_MAX);
  struct nvme_command queues = {.opcode = ADMIN_SET_FEATURES, .word10 = FEATURE_QUEUES};
  queues.word11 = (io_queues - 1) << 16 | (io_queues - 1);
  u16 id = submit(&nvme->queue[0], take_slot(&nvme->queue[0], 2), &queues);
  if (nvme_wait(nvme, 0, id) != NVME_SUCCESS) return "the NVMe controller refuses the number of queues";
  u32 granted = nvme->queue[0].slot[id].result;
  nvme->io_queues = MIN(io_queues, MIN(granted & 0xffff, granted >> 16) + 1);
  if (!polled) nvme->io_queues = MIN(nvme->io_queues, MIN(function->msix_entries, 2048u) - 1);
  if (nvme->io_queues == 0) return "the NVMe controller has no interrupt for an I/O queue";
  for (u32 i = 1; i <= nvme->io_queues; i++) {
    wrong = nvme_queue_open(nvme, i, entries);
    if (wrong != NULL) return wrong;
  }
  return NULL;
}

u16 nvme_start(struct nvme *nvme, u32 queue, u8 opcode, u64 byte_offset, const struct dma_buffer *buffer,
               u64 buffer_offset, u64 bytes, u32 depth) {
  struct nvme_queue *q = &nvme->queue[queue];
  u16 id = take_slot(q, depth);
  u64 block = byte_offset / nvme->block_bytes;
  struct nvme_command command = {.opcode = opcode, .namespace_id = 1, .prp1 = dma_address(buffer, buffer_offset)};
  u32 pages = (u32)((bytes + PAGE_BYTES - 1) / PAGE_BYTES);
  if (pages == 2) command.prp2 = dma_address(buffer, buffer_offset + PAGE_BYTES);
  if (pages > 2) {
    u64 *entries = (u64 *)dma_pointer(&q->lists, id * PAGE_BYTES);
    for (u32 i = 1; i < pages; i++) entries[i - 1] = dma_address(buffer, buffer_offset + i * PAGE_BYTES);
    command.prp2 = dma_address(&q->lists, id * PAGE_BYTES);
  }
  command.word10 = (u32)block;
  command.word11 = (u32)(block >> 32);
  command.word12 = (u32)(bytes / nvme->block_bytes) - 1;
  return submit(q, id, &command);
}

u16 nvme_start_flush(struct nvme *nvme, u32 queue) {
  struct nvme_command command = {.opcode = NVME_FLUSH, .namespace_id = 1};
  struct nvme_queue *q = &nvme->queue[queue];
  return submit(q, take_slot(q, q->entries), &command);
}

u16 nvme_drain(struct nvme *nvme, u32 queue) {
  struct nvme_queue *q = &nvme->queue[queue];
  struct waiting w = {q, 0, 1};
  if (!wait(nvme, below_depth, &w)) return NVME_TIMEOUT;
  u16 status = q->first_error;
  q->first_error = NVME_SUCCESS;
  return status;
}
