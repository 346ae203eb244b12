#include "user.h"
#include "clock.h"
#include "dma.h"
#include "iommu.h"
#include "pages.h"
#include "program.h"
#include "trap.h"

#define SATP_SV39 (8ul << 60)
#define PTE_V 1ul
#define PTE_CODE 0x5bul             // valid, read, execute, user, accessed
#define PTE_DATA 0xd7ul             // valid, read, write, user, accessed, dirty
#define PTE_FILE 0x53ul             // valid, read, user, accessed
#define PTE_KERNEL 0xeful           // valid, read, write, execute, global, accessed, dirty
#define PTE_OWNED (1ul << 8)        // the page is the process's
#define PTE_SWAPPED (1ul << 9)      // not valid: the number field is a slot on the disk
#define PTE_ADDRESS(pte) (((pte) >> 10 & 0xfffffffffff) << 12)
#define KERNEL_GIBIBYTE 2           // of the root table: where memory and the program lie

#define SLICE_TICKS_PER_SECOND 5000
#define FIRST_PASID 0x12340u
#define RESIDENT_MAX 4096u
#define SLOTS 1024u
#define DEVICES 4u

#define CSR_SCOUNTEREN 0x106
#define CAUSE_ECALL 8ul
#define CAUSE_FETCH_FAULT 12ul
#define CAUSE_LOAD_FAULT 13ul
#define CAUSE_STORE_FAULT 15ul

extern u8 _start[], __constant_end[];
void user_enter(struct user_context *context);

static struct user_process processes[USER_PROCESSES];
static struct {
  struct process_directory *directory;
  bool has_cache;
} devices[DEVICES];
static u32 device_count, limit, residents, reclaimed;
static struct nvme *disk;
static struct dma_buffer bounce;
static u64 swap_at;
static u8 slot_used[SLOTS];
static u64 (*own_call)(struct user_process *, u64, const u64 *);
// Pages in memory, the oldest first.
static struct {
  struct user_process *process;
  u64 address;
} resident[RESIDENT_MAX];
static u32 resident_in, resident_out;

u32 user_reclaimed(void) { return reclaimed; }

void user_open(struct nvme *nvme, u64 at, u32 most, u64 (*call)(struct user_process *, u64, const u64 *)) {
  disk = nvme;
  swap_at = at;
  limit = most;
  own_call = call;
  // Processes may read cycle, time and instret.
  csr_write(CSR_SCOUNTEREN, 7);
  if (disk != NULL) dma_buffer_open(&bounce, disk->space, 1);
}

void user_limit(u32 pages) { limit = pages; }

void user_add_device(struct process_directory *directory, bool has_cache) {
  REQUIRE(device_count < DEVICES, "too many devices for processes");
  devices[device_count].directory = directory;
  devices[device_count++].has_cache = has_cache;
}

static u64 *pte_of(struct user_process *p, u64 address, bool create) {
  u64 *table = p->root;
  for (u32 level = 2; level > 0; level--) {
    u64 *entry = table + (address >> (12 + 9 * level) & 0x1ff);
    if ((*entry & PTE_V) == 0) {
      if (!create) return NULL;
      *entry = page_take() >> 2 | PTE_V;
    }
    table = (u64 *)PTE_ADDRESS(*entry);
  }
  return table + (address >> 12 & 0x1ff);
}

static void disk_page(u8 opcode, u64 at, u64 page) {
  if (opcode == NVME_WRITE) memcpy((void *)bounce.page[0], (void *)page, PAGE_BYTES);
  u16 status = nvme_wait(disk, 1, nvme_start(disk, 1, opcode, at, &bounce, 0, PAGE_BYTES, 8));
  REQUIRE(status == NVME_SUCCESS, "the kernel's disk command ends with 0x%x", status);
  if (opcode == NVME_READ) memcpy((void *)page, (void *)bounce.page[0], PAGE_BYTES);
}

static bool is_file(u64 address) { return address - USER_FILE < USER_FILE_BYTES; }

static void invalidate(struct user_process *p, u64 address) {
  iommu_invalidate_page(p->pscid, address);
  for (u32 i = 0; i < device_count; i++)
    if (devices[i].has_cache) process_invalidate_device(devices[i].directory->device_id, true, p->pasid, address, 12);
}

// Takes the oldest page away: first from the tables, then from the IOMMU, then from the devices, and only then its data.
static void reclaim(void) {
  for (;;) {
    REQUIRE(resident_out != resident_in, "no page is left to reclaim");
    struct user_process *p = resident[resident_out % RESIDENT_MAX].process;
    u64 address = resident[resident_out++ % RESIDENT_MAX].address;
    u64 *pte = p->state == USER_READY ? pte_of(p, address, false) : NULL;
    if (pte == NULL || (*pte & (PTE_V | PTE_OWNED)) != (PTE_V | PTE_OWNED)) continue;
    u64 page = PTE_ADDRESS(*pte);
    *(volatile u64 *)pte = 0;
    fence();
    invalidate(p, address);
    if (!is_file(address)) {
      u32 slot = 0;
      while (slot < SLOTS && slot_used[slot]) slot++;
      REQUIRE(slot < SLOTS, "no room left to swap to");
      slot_used[slot] = 1;
      disk_page(NVME_WRITE, swap_at + slot * PAGE_BYTES, page);
      *pte = (u64)slot << 10 | PTE_SWAPPED;
    }
    page_give(page);
    p->resident--, p->evicted++, residents--, reclaimed++;
    return;
  }
}

bool user_make_present(struct user_process *p, u64 address) {
  address &= ~(PAGE_BYTES - 1);
  bool is_heap = address - USER_HEAP < USER_HEAP_BYTES;
  bool is_stack = USER_STACK_TOP - 1 - address < USER_STACK_BYTES;
  if (!is_heap && !is_stack && !(is_file(address) && disk != NULL)) return false;
  u64 *pte = pte_of(p, address, true);
  if (*pte & PTE_V) return true;
  if (residents >= limit && disk != NULL) reclaim();
  u64 page = page_take();
  if (*pte & PTE_SWAPPED) {
    u32 slot = (u32)(*pte >> 10);
    disk_page(NVME_READ, swap_at + slot * PAGE_BYTES, page);
    slot_used[slot] = 0;
    p->swapped_in++;
  } else if (is_file(address)) {
    disk_page(NVME_READ, address - USER_FILE, page);
    p->loaded++;
  }
  fence();
  *(volatile u64 *)pte = page >> 2 | (is_file(address) ? PTE_FILE : PTE_DATA) | PTE_OWNED;
  fence();
  // Pages of processes that are gone are still in the list.
  while (resident_out != resident_in && resident[resident_out % RESIDENT_MAX].address == 0) resident_out++;
  REQUIRE(resident_in - resident_out < RESIDENT_MAX, "too many pages in memory");
  resident[resident_in % RESIDENT_MAX].process = p;
  resident[resident_in++ % RESIDENT_MAX].address = address;
  p->resident++, residents++;
  return true;
}

u64 user_physical(struct user_process *p, u64 address) {
  u64 *pte = pte_of(p, address, false);
  return pte != NULL && (*pte & PTE_V) ? PTE_ADDRESS(*pte) + address % PAGE_BYTES : 0;
}

static struct user_process *by_pasid(u32 pasid) {
  for (u32 i = 0; i < USER_PROCESSES; i++)
    if (processes[i].state != USER_NONE && processes[i].pasid == pasid) return &processes[i];
  return NULL;
}

// A group gets one answer, behind its last request: Invalid where any page of it may not be.
void user_page_request(const struct page_request *r) {
  static u32 refused_group = ~0u;
  if (!r->read && !r->write) return;
  struct user_process *p = r->with_pasid ? by_pasid(r->pasid) : NULL;
  bool is_right = p != NULL && p->state == USER_READY && !(r->write && is_file(r->address)) &&
                  user_make_present(p, r->address);
  if (p != NULL) {
    p->device_requests++;
    if (!is_right) p->refused++;
  }
  u32 group = r->device_id << 9 | r->group;
  if (!is_right) refused_group = group;
  if (!r->last) return;
  page_respond(r, refused_group == group ? RESPONSE_INVALID : RESPONSE_SUCCESS);
  refused_group = ~0u;
}

struct user_process *user_create(const char *name, void (*entry)(u64), u64 argument) {
  u32 index = 0;
  while (index < USER_PROCESSES && processes[index].state != USER_NONE) index++;
  REQUIRE(index < USER_PROCESSES, "no process is free");
  struct user_process *p = &processes[index];
  // Page requests of other processes use the same command queue, in the interrupt.
  interrupts_off();
  memset(p, 0, sizeof *p);
  p->name = name;
  p->pasid = FIRST_PASID + index;
  p->pscid = 0x800 + index;
  p->root = (u64 *)page_take();
  // The kernel's gibibyte, for the trap on the way back; devices without privilege do not see it either.
  p->root[KERNEL_GIBIBYTE] = ((u64)KERNEL_GIBIBYTE << 30) >> 2 | PTE_KERNEL;
  for (u64 page = (u64)_start; page < (u64)__constant_end; page += PAGE_BYTES)
    *pte_of(p, USER_CODE + page - (u64)_start, true) = page >> 2 | PTE_CODE;
  p->context.pc = USER_CODE + (u64)entry - (u64)_start;
  p->context.x[2] = USER_STACK_TOP - 64;
  p->context.x[10] = argument;
  p->context.satp = SATP_SV39 | (u64)p->root >> 12;
  for (u32 i = 0; i < device_count; i++) process_bind(devices[i].directory, p->pasid, (u64)p->root, p->pscid);
  p->state = USER_READY;
  interrupts_on();
  return p;
}

u64 user_map_device(struct user_process *p, u32 index, u64 page) {
  u64 address = USER_DEVICE + index * PAGE_BYTES;
  *pte_of(p, address, true) = page >> 2 | PTE_DATA;
  return address;
}

static void end(struct user_process *p, u32 code) {
  p->state = USER_EXITED;
  p->exit_code = code;
}

static void system_call(struct user_process *p) {
  u64 *x = p->context.x, number = x[17];
  p->context.pc += 4;
  if (number == USER_EXIT) end(p, (u32)x[10]);
  else if (number == USER_REPORT && x[10] < USER_REPORTS) p->report[x[10]] = x[11];
  else if (number >= USER_FIRST_OWN && own_call != NULL) x[10] = own_call(p, number, x + 10);
}

// One turn: until the end of the slice, a system call or a fault that is not to be mended.
static void turn(struct user_process *p) {
  interrupts_off();
  timer_arm(clock_now() + clock_rate() / SLICE_TICKS_PER_SECOND);
  user_enter(&p->context);
  u64 cause = csr_read(CSR_SCAUSE), value = csr_read(0x143);
  if (cause == CAUSE_ECALL) {
    system_call(p);
  } else if (cause == CAUSE_FETCH_FAULT || cause == CAUSE_LOAD_FAULT || cause == CAUSE_STORE_FAULT) {
    p->hart_faults++;
    bool is_right = !(cause == CAUSE_STORE_FAULT && is_file(value)) && user_make_present(p, value);
    if (!is_right) {
      print("%s: stopped: scause=%lu stval=0x%lx pc=0x%lx\n", p->name, cause, value, p->context.pc);
      end(p, 139);
    }
  } else if (cause >> 63 == 0) {
    print("%s: stopped: scause=%lu stval=0x%lx pc=0x%lx\n", p->name, cause, value, p->context.pc);
    end(p, 139);
  }
  // What interrupted the process is taken here.
  interrupts_on();
}

void user_run(bool (*stop)(void)) {
  for (bool any = true; any;) {
    any = false;
    for (u32 i = 0; i < USER_PROCESSES; i++) {
      if (processes[i].state != USER_READY) continue;
      any = true;
      turn(&processes[i]);
      if (stop != NULL && stop()) return;
    }
  }
}

void user_stop(struct user_process *p) {
  if (p->state == USER_READY) p->state = USER_KILLED;
}

static void free_table(u64 *table, u32 level) {
  for (u32 i = 0; i < 512; i++) {
    u64 pte = table[i];
    if (level == 0 && (pte & (PTE_V | PTE_OWNED)) == (PTE_V | PTE_OWNED)) page_give(PTE_ADDRESS(pte));
    else if (level == 0 && !(pte & PTE_V) && (pte & PTE_SWAPPED)) slot_used[pte >> 10] = 0;
    else if (level > 0 && (pte & PTE_V) && (pte & 0xe) == 0) free_table((u64 *)PTE_ADDRESS(pte), level - 1);
  }
  page_give((u64)table);
}

void user_destroy(struct user_process *p) {
  interrupts_off();
  for (u32 i = 0; i < device_count; i++) {
    process_unbind(devices[i].directory, p->pasid, p->pscid);
    if (devices[i].has_cache) process_invalidate_device_all(devices[i].directory->device_id, true, p->pasid);
  }
  residents -= p->resident;
  // Forgotten in the list of resident pages by the state of the process; a new one must not be taken for it.
  for (u32 i = resident_out; i != resident_in; i++)
    if (resident[i % RESIDENT_MAX].process == p) resident[i % RESIDENT_MAX].address = 0;
  free_table(p->root, 2);
  p->state = USER_NONE;
  interrupts_on();
}
