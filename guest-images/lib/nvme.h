// An NVMe controller (NVM Express 1.4): admin queue, I/O queues, PRP lists, completions by MSI-X or by polling.
#pragma once
#include "base.h"
#include "dma.h"

#define NVME_CLASS 0x010802
#define NVME_QUEUE_ENTRIES 64u
#define NVME_IO_QUEUES_MAX 4u

#define NVME_WRITE 1
#define NVME_READ 2
#define NVME_FLUSH 0

// Status code type and code, as in bits 11:1 of the completion's status half-word.
#define NVME_SUCCESS 0
#define NVME_DATA_TRANSFER_ERROR 4
/// Our own: no completion came in time.
#define NVME_TIMEOUT 0xffff

/// A submission queue entry (4.2).
struct nvme_command {
  u8 opcode, flags;
  u16 id;
  u32 namespace_id;
  u64 reserved, metadata, prp1, prp2;
  u32 word10, word11, word12, word13, word14, word15;
};

/// A command identifier: free, in flight or done, and then with its result and status.
struct nvme_slot {
  bool in_flight;
  u16 status;
  u32 result;
};

struct nvme_queue {
  struct nvme *nvme;
  u32 id, entries, tail, head, next_slot;
  u32 submitted;           // counted by the program
  volatile u32 completed;  // counted where completions are seen
  volatile u16 first_error;
  u16 phase;
  struct dma_buffer submissions, completions, lists;  // lists: one page of PRP entries a command
  volatile struct nvme_slot slot[NVME_QUEUE_ENTRIES];
};

struct nvme {
  struct pci_function *function;
  struct dma_space *space;
  u64 registers, doorbell_stride;
  u64 blocks;
  u32 block_bytes, transfer_bytes;  // the largest transfer of one command
  u32 io_queues;
  bool polled;
  volatile u64 interrupts;
  char model[41], serial[21];
  struct nvme_queue queue[1 + NVME_IO_QUEUES_MAX];  // 0 is the admin queue
};

/// Resets the controller and brings it up with up to `io_queues` I/O queues on namespace 1.
/// `polled`: completions raise no interrupt, and waiting looks for them. Returns NULL, or what went wrong.
const char *nvme_open(struct nvme *nvme, struct pci_function *function, struct dma_space *space, u32 io_queues,
                      bool polled);
/// Switches the controller off (CC.EN = 0) and waits until it is.
bool nvme_close(struct nvme *nvme);

/// Starts a read or write of `bytes` (a multiple of the block) at `byte_offset` of the disk; the buffer must begin on
/// a page. Returns the command identifier; waits while the queue has `depth` commands in flight.
u16 nvme_start(struct nvme *nvme, u32 queue, u8 opcode, u64 byte_offset, const struct dma_buffer *buffer,
               u64 buffer_offset, u64 bytes, u32 depth);
u16 nvme_start_flush(struct nvme *nvme, u32 queue);
/// Puts any command in a queue; its identifier is chosen here. Returns it.
u16 nvme_submit(struct nvme *nvme, u32 queue, const struct nvme_command *command);
/// The same, and waits; returns the status, and dword 0 of the completion in `result` unless that is NULL.
u16 nvme_run(struct nvme *nvme, u32 queue, const struct nvme_command *command, u32 *result);
/// Creates I/O queue pair `id` of `entries` on the controller; for queues that the program itself deleted.
const char *nvme_queue_open(struct nvme *nvme, u32 id, u32 entries);
/// Waits for one command; returns its status.
u16 nvme_wait(struct nvme *nvme, u32 queue, u16 command);
/// Waits until no command is in flight; returns the first status since the last drain that is not success.
u16 nvme_drain(struct nvme *nvme, u32 queue);
/// Looks for completions now; returns how many there were.
u32 nvme_poll(struct nvme_queue *queue);
