// Processes in U-mode: an Sv39 table each, pages on demand for hart and devices alike, reclaim to disk.
#pragma once
#include "base.h"
#include "nvme.h"
#include "process.h"

// A process's addresses; all under one entry of the root table. The program's code and constants are seen at USER_CODE.
#define USER_BASE 0x1000000000ul
#define USER_CODE USER_BASE
#define USER_STACK_TOP (USER_BASE + 0x10000000)
#define USER_STACK_BYTES (64 * PAGE_BYTES)
#define USER_HEAP (USER_BASE + 0x20000000)
#define USER_HEAP_BYTES (16ul << 20)
#define USER_FILE (USER_BASE + 0x30000000)  // the disk, from its first byte
#define USER_FILE_BYTES (16ul << 20)
#define USER_DEVICE (USER_BASE + 0x38000000)

#define USER_PROCESSES 8u
#define USER_REPORTS 24u

struct user_context {
  u64 x[32];
  u64 pc, kernel_sp, satp;
};

enum user_state { USER_NONE, USER_READY, USER_DYING, USER_EXITED, USER_KILLED };

struct user_process {
  const char *name;
  enum user_state state;
  u32 pasid, pscid, devices;
  u64 *root;
  struct user_context context;
  u32 exit_code;
  u32 hart_faults, device_requests, refused, resident, evicted, swapped_in, loaded;
  u64 report[USER_REPORTS];  // what the process said by USER_REPORT
};

// System calls: a7 is the number, a0 … the arguments and the result.
#define USER_EXIT 0
#define USER_REPORT 1
#define USER_YIELD 2
/// Numbers from here on are the program's own.
#define USER_FIRST_OWN 16

/// Starts the kernel: `disk` (may be NULL) holds files and, from `swap_at`, what is reclaimed; at most `limit` pages of
/// processes stay in memory. `call` gets the system calls that are not the kernel's.
void user_open(struct nvme *disk, u64 swap_at, u32 limit, u64 (*call)(struct user_process *p, u64 number, const u64 *a));
/// Another limit on the pages of processes in memory.
void user_limit(u32 pages);
/// Lets page requests and reclaim concern this directory's device too.
void user_add_device(struct process_directory *directory, bool has_cache);
/// A new process with a PASID of its own, bound to all devices, that will run `entry(argument)`.
struct user_process *user_create(const char *name, void (*entry)(u64), u64 argument);
/// Maps a device's page at USER_DEVICE + `index` pages; returns that address.
u64 user_map_device(struct user_process *p, u32 index, u64 page);
/// Runs processes by turns until none is ready, or `stop` says so.
void user_run(bool (*stop)(void));
/// First half of an end: page requests are refused from now on.
void user_stop(struct user_process *p);
/// Second half, when the devices' queues are closed: unbinds everywhere, invalidates, gives the pages and the PASID back.
void user_destroy(struct user_process *p);
/// For page_requests_open.
void user_page_request(const struct page_request *request);
/// Makes a page present as an access of the hart would; false where nothing may be.
bool user_make_present(struct user_process *p, u64 address);
/// The physical address of a present page, or 0.
u64 user_physical(struct user_process *p, u64 address);
u32 user_reclaimed(void);
