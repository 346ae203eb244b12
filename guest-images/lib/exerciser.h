// The exerciser: a function that does the DMA it is told (devices/exerciser/README.md). Rings lie in its local memory.
#pragma once
#include "base.h"
#include "pci.h"

#define EXERCISER_VENDOR 0x1efd
#define EXERCISER_DEVICE 0xe001

#define OP_NOP 0
#define OP_READ 1
#define OP_WRITE 2
#define OP_FILL 3
#define OP_COPY 4
#define OP_COMPARE 5
#define OP_FETCH_ADD 6
#define OP_SWAP 7
#define OP_COMPARE_SWAP 8
#define OP_TRANSLATE 9
#define OP_PAGE_REQUEST 10
#define OP_STOP_MARKER 11

#define MODE_UNTRANSLATED 0
#define MODE_ATS 1
#define MODE_TRANSLATED 2
#define MODE_PASID 4
#define MODE_PRIVILEGED 8
#define MODE_EXECUTE 16
#define MODE_PAGE_REQUEST 32

#define FLAG_FENCE 1
#define FLAG_INTERRUPT 2
#define FLAG_NO_WAIT 4
#define FLAG_NO_WRITE 8

#define PAGE_READ 1
#define PAGE_WRITE 2
#define PAGE_LAST 4

#define DONE_SUCCESS 0
#define DONE_UNSUPPORTED 1
#define DONE_ABORT 2
#define DONE_MISMATCH 3
#define DONE_INVALID_DESCRIPTOR 4
#define DONE_NOT_ENABLED 5
#define DONE_NO_PERMISSION 6
#define DONE_PAGE_INVALID 7
#define DONE_PAGE_FAILURE 8
#define DONE_NO_CREDITS 9
#define DONE_FORBIDDEN 11
#define DONE_RETRIES 12

struct exerciser_descriptor {
  u8 opcode, source_mode, destination_mode, flags;
  u32 tag;
  u64 source, destination;
  u32 length, source_pasid, destination_pasid;
  u16 group;
  u8 page_flags, operand_bytes;
  u64 operand, compare;
  u32 pages, delay_ns;
};

struct exerciser_completion {
  u32 tag;
  u8 status, phase, rights, opcode;
  u64 value, translated;
  u32 fault_offset, bytes_done;
  u64 latency_ns, started_ns;
  u16 translations, page_requests, stale, group, index;
  u8 range_shift, reserved[5];
};

struct exerciser {
  const struct pci_function *function;
  u64 registers, local;
  u32 submitted, completed;
};

/// The names of the statuses, as in the data sheet.
const char *exerciser_status_name(u32 status);
/// Resets the function and starts queue 0, 64 descriptors, `parallel` transactions at once. NULL, or what went wrong.
const char *exerciser_open(struct exerciser *x, const struct pci_function *f, u32 parallel);
/// Queues one transaction (room for 64) without waiting.
void exerciser_submit(struct exerciser *x, const struct exerciser_descriptor *descriptor);
/// Takes the oldest completion not yet taken; false when none comes in time.
bool exerciser_take(struct exerciser *x, struct exerciser_completion *completion, u64 milliseconds);
/// One transaction, from its descriptor to its completion.
struct exerciser_completion exerciser_run(struct exerciser *x, struct exerciser_descriptor descriptor);
/// A register of BAR 0.
u32 exerciser_register(const struct exerciser *x, u32 offset);

#define EXERCISER_CONTROL 0x08
#define EXERCISER_ATC_VALID 0x28
#define EXERCISER_ATC_CONTROL 0x2c
#define EXERCISER_CREDITS 0x30
#define EXERCISER_OUTSTANDING 0x34
#define EXERCISER_ATC_HITS 0x50
#define EXERCISER_INVALIDATIONS 0x58
#define EXERCISER_PAGE_REQUESTS 0x5c
#define EXERCISER_PAGE_RESPONSES 0x60

/// Gives queue `queue` (1 … 15) to a process: rings of 64 at these addresses of its own, all with its PASID.
void exerciser_queue_open(struct exerciser *x, u32 queue, u32 pasid, u8 mode, u64 ring, u64 completions);
void exerciser_queue_close(struct exerciser *x, u32 queue);
/// QSTATUS of a queue.
u32 exerciser_queue_status(const struct exerciser *x, u32 queue);
/// The page of a queue's doorbells, to be mapped into a process: TAIL at 0, COMPLETION_HEAD at 4.
u64 exerciser_doorbells(const struct exerciser *x, u32 queue);
