// What runs in U-mode: a process's own NVMe queue and NIC ring, with plain pointers of its heap in both.
#include "clock.h"
#include "nvme.h"
#include "parts.h"
#include "user-side.h"

#define ENTRIES 64u
#define CHUNK 16384ul

struct disk {
  struct nvme_command *submissions;
  volatile u32 *completions;
  volatile u32 *doorbell;
  u64 *list;
  u32 tail, head, phase;
};

// The controller has no page requests: what a process gives to it, it has touched.
static void *touched(struct user_heap *heap, u64 bytes) {
  heap->next = ALIGN_UP(heap->next == 0 ? USER_HEAP : heap->next, PAGE_BYTES);
  u64 at = (u64)user_malloc(heap, ALIGN_UP(bytes, PAGE_BYTES));
  for (u64 i = 0; i < bytes; i += PAGE_BYTES) *(volatile u64 *)(at + i) = 0;
  return (void *)at;
}

static void open_disk(struct disk *d, struct user_heap *heap) {
  d->submissions = touched(heap, PAGE_BYTES);
  d->completions = touched(heap, PAGE_BYTES);
  d->list = touched(heap, PAGE_BYTES);
  d->tail = d->head = 0;
  d->phase = 1;
  d->doorbell = (volatile u32 *)user_call(CALL_OPEN_DISK, (u64)d->submissions, (u64)d->completions, 0);
  if (d->doorbell == NULL) user_exit(1);
}

// One read of up to CHUNK bytes to `to`, and its status, which is looked for in the process's own memory.
static u32 read(struct disk *d, u64 at, u64 to, u64 bytes) {
  for (u64 i = 1; i < bytes / PAGE_BYTES; i++) ((volatile u64 *)d->list)[i - 1] = to + i * PAGE_BYTES;
  struct nvme_command c = {.opcode = NVME_READ, .namespace_id = 1, .prp1 = to, .word10 = (u32)(at / 512), .word12 = (u32)(bytes / 512) - 1};
  c.id = (u16)d->tail;
  c.prp2 = bytes > 2 * PAGE_BYTES ? (u64)d->list : to + PAGE_BYTES;
  user_copy(&d->submissions[d->tail], &c, 64);
  d->tail = (d->tail + 1) % ENTRIES;
  fence();
  d->doorbell[0] = d->tail;
  u32 word;
  while (((word = d->completions[d->head * 4 + 3]) >> 16 & 1) != d->phase);
  fence();
  if (++d->head == ENTRIES) d->head = 0, d->phase ^= 1;
  d->doorbell[1] = d->head;
  return word >> 17 & 0x7ff;
}

void copier(u64 number) {
  struct user_heap heap = {0};
  struct disk disk;
  u64 start = clock_now();
  open_disk(&disk, &heap);
  u64 data = (u64)touched(&heap, FILE_BYTES), headers = (u64)touched(&heap, FRAMES * HEADER_BYTES);
  volatile u64 *ring = touched(&heap, PAGE_BYTES);
  volatile u32 *wire = (volatile u32 *)user_call(CALL_OPEN_WIRE, (u64)ring, 0, 0);
  if (wire == NULL) user_exit(2);
  if (number == 0) *(volatile u64 *)SECRET = SECRET_WORD;

  u64 commands = 0;
  for (u64 at = 0; at < FILE_BYTES; at += CHUNK, commands++)
    if (read(&disk, FILE_AT + number * FILE_BYTES + at, data + at, CHUNK) != 0) user_exit(3);

  // Two descriptors a frame: a header, and the block where the disk has put it.
  u32 tail = 0;
  for (u64 i = 0; i < FRAMES; i++) {
    volatile u8 *h = (volatile u8 *)(headers + i * HEADER_BYTES);
    for (u32 k = 0; k < 6; k++) h[k] = 0xff, h[6 + k] = (u8)(k == 0 ? 2 : k == 5 ? number : 0);
    h[12] = 0x88, h[13] = 0xb5;
    h[16] = (u8)number;
    h[18] = (u8)i, h[19] = (u8)(i >> 8);
    for (u32 part = 0; part < 2; part++) {
      ring[2 * tail] = part ? data + i * FRAME_BYTES : (u64)h;
      // Length, and end of frame, FCS and report.
      ring[2 * tail + 1] = part ? FRAME_BYTES | 11ul << 24 : HEADER_BYTES | 10ul << 24;
      tail = (tail + 1) % ENTRIES;
    }
    fence();
    wire[6] = tail;
    u32 last = (tail + ENTRIES - 1) % ENTRIES;
    while ((ring[2 * last + 1] >> 32 & 1) == 0);
  }
  user_report(REPORT_COMMANDS, commands);
  user_report(REPORT_FRAMES, FRAMES);
  user_report(REPORT_TICKS, clock_now() - start);
  user_exit(0);
}

void thief(u64 unused) {
  struct user_heap heap = {0};
  struct disk disk;
  (void)unused;
  open_disk(&disk, &heap);
  u64 own = (u64)touched(&heap, PAGE_BYTES);
  user_report(REPORT_STATUS, read(&disk, FILE_AT, own, PAGE_BYTES));
  // Another process's pointer, the kernel's memory, and an address that no Sv39 table can have.
  user_report(REPORT_STATUS + 1, read(&disk, FILE_AT, SECRET, PAGE_BYTES));
  user_report(REPORT_STATUS + 2, read(&disk, FILE_AT, 0x80200000, PAGE_BYTES));
  user_report(REPORT_STATUS + 3, read(&disk, FILE_AT, 1ul << 52, PAGE_BYTES));
  // A doorbell of the other's queue makes the controller look at the other's queue, which is empty.
  disk.doorbell[-4] = disk.doorbell[-4];
  // The hart is stopped as well.
  *(volatile u64 *)(0x80200000) = 0;
  user_exit(9);
}
