// Two processes with two PASIDs share an NVMe controller and a NIC: each reads its part of a file into its heap and sends
// it, through a queue and a ring of its own. A third tries another's pointer, and is stopped.
#include "clock.h"
#include "iommu.h"
#include "machine.h"
#include "nic.h"
#include "pages.h"
#include "parts.h"
#include "program.h"
#include "trap.h"

#define KERNEL_IOVA 0x1000000000ul
#define ADMIN_DELETE_SQ 0x00
#define ADMIN_CREATE_SQ 0x01
#define ADMIN_DELETE_CQ 0x04
#define ADMIN_CREATE_CQ 0x05
#define QUEUES 4u
#define DATA_TRANSFER_ERROR 4u

#define TXPASID(q) (0xbe04 + 0x100 * (q))
#define TDBAL(q) (0x3800 + 0x100 * (q))
#define TDBAH(q) (0x3804 + 0x100 * (q))
#define TDLEN(q) (0x3808 + 0x100 * (q))
#define TDH(q) (0x3810 + 0x100 * (q))
#define TDT(q) (0x3818 + 0x100 * (q))
#define USER_PAGE(q) (0x1e000 + 0x1000 * (q))
#define PASID_VALID (1u << 31)

static struct process_directory disk_directory, wire_directory;
static struct dma_space disk_space, wire_space, far_space;
static struct nvme disk;
static struct nic near, far;
static struct user_process *disk_owner[QUEUES + 1], *wire_owner[2];
static u8 *received[2];
static u32 frames[2], strays;

static void admin(u8 opcode, u32 id, u32 word11, u64 address, u32 word12) {
  struct nvme_command c = {.opcode = opcode, .prp1 = address, .word10 = 63u << 16 | id, .word11 = word11, .word12 = word12};
  u16 status = nvme_run(&disk, 0, &c, NULL);
  REQUIRE(status == NVME_SUCCESS, "admin command 0x%x on queue %u ends with 0x%x", opcode, id, status);
}

static u64 open_disk(struct user_process *p, const u64 *a) {
  for (u32 id = 2; id <= QUEUES; id++) {
    if (disk_owner[id] != NULL) continue;
    disk_owner[id] = p;
    admin(ADMIN_CREATE_CQ, id, 1, a[1], PASID_VALID | p->pasid);
    admin(ADMIN_CREATE_SQ, id, 1 | id << 16, a[0], PASID_VALID | p->pasid);
    return user_map_device(p, 0, disk.registers + 0x1000) + 2 * id * disk.doorbell_stride;
  }
  return 0;
}

static u64 open_wire(struct user_process *p, const u64 *a) {
  for (u32 q = 0; q < 2; q++) {
    if (wire_owner[q] != NULL) continue;
    wire_owner[q] = p;
    u64 r = near.registers;
    mmio_write32(r + TDLEN(q), 0);
    mmio_write32(r + TXPASID(q), PASID_VALID | p->pasid);
    mmio_write32(r + TDBAL(q), (u32)a[0]);
    mmio_write32(r + TDBAH(q), (u32)(a[0] >> 32));
    mmio_write32(r + TDH(q), 0);
    mmio_write32(r + TDT(q), 0);
    mmio_write32(r + TDLEN(q), 1024);
    return user_map_device(p, 1, r + USER_PAGE(q));
  }
  return 0;
}

static u64 call(struct user_process *p, u64 number, const u64 *a) {
  return number == CALL_OPEN_DISK ? open_disk(p, a) : number == CALL_OPEN_WIRE ? open_wire(p, a) : 0;
}

static void finish(struct user_process *p) {
  user_stop(p);
  for (u32 id = 2; id <= QUEUES; id++)
    if (disk_owner[id] == p) {
      admin(ADMIN_DELETE_SQ, id, 0, 0, 0);
      admin(ADMIN_DELETE_CQ, id, 0, 0, 0);
      disk_owner[id] = NULL;
    }
  for (u32 q = 0; q < 2; q++)
    if (wire_owner[q] == p) {
      mmio_write32(near.registers + TDLEN(q), 0);
      mmio_write32(near.registers + TXPASID(q), 0);
      wire_owner[q] = NULL;
    }
  user_destroy(p);
}

// Takes what has arrived at the far end; also the kernel's turn between two processes.
static bool collect(void) {
  static u8 frame[NIC_FRAME_MAX + 8];
  for (u32 bytes; (bytes = nic_receive(&far, frame, 0)) != 0;) {
    u32 number = frame[16], index = frame[18] | (u32)frame[19] << 8;
    if (bytes != HEADER_BYTES + FRAME_BYTES || number > 1 || index >= FRAMES) {
      strays++;
      continue;
    }
    memcpy(received[number] + index * FRAME_BYTES, frame + HEADER_BYTES, FRAME_BYTES);
    frames[number]++;
  }
  return false;
}

// The way of one address, as the tables stand.
static void show_way(struct user_process *p, u64 address) {
  u64 entry = (u64)p->root, context = process_context_address(&disk_directory, p->pasid);
  print("way: pointer=0x%lx pasid=0x%x context=0x%lx root=0x%lx", address, p->pasid, context, (u64)p->root);
  for (u32 level = 3; level-- > 0;) {
    u64 at = entry + (address >> (12 + 9 * level) & 0x1ff) * 8;
    u64 pte = *(u64 *)at;
    print(" level%u=0x%lx", level, at);
    entry = (pte >> 10 & 0xfffffffffff) << 12;
  }
  print(" page=0x%lx\n", entry);
}

static u64 shown_at;
static bool collect_and_show(void) {
  static bool is_shown;
  struct user_process *p = disk_owner[2];
  if (!is_shown && p != NULL && user_physical(p, shown_at) != 0) {
    is_shown = true;
    show_way(p, shown_at);
  }
  return collect();
}

static void bring_up(struct pci_function *n, struct pci_function *a, struct pci_function *b) {
  u32 mode = process_mode_offered(PROCESS_DIRECTORY_20) ? PROCESS_DIRECTORY_20 : PROCESS_DIRECTORY_17;
  // Requests without a PASID, the kernel's own queues and messages, are those of process 0.
  process_directory_open(&disk_directory, n, mode, TRANSLATE_DPE);
  dma_space_open_process(&disk_space, "disk", n, KERNEL_IOVA);
  process_bind(&disk_directory, 0, (u64)disk_space.root, disk_space.pscid);
  process_directory_open(&wire_directory, a, mode, TRANSLATE_DPE);
  dma_space_open_process(&wire_space, "near", a, KERNEL_IOVA);
  process_bind(&wire_directory, 0, (u64)wire_space.root, wire_space.pscid);
  REQUIRE(process_enable(n, ENABLE_PASID), "the NVMe controller has no PASIDs: give the disk pasid-bits=20");
  REQUIRE(process_enable(a, ENABLE_PASID), "the NIC has no PASIDs");
  dma_space_open(&far_space, "far", b, KERNEL_IOVA);
  const char *wrong = nvme_open(&disk, n, &disk_space, QUEUES, true);
  if (wrong == NULL) wrong = nic_open(&near, "near", a, &wire_space);
  if (wrong == NULL) wrong = nic_open(&far, "far", b, &far_space);
  REQUIRE(wrong == NULL, "%s", wrong);
  REQUIRE(disk.io_queues == QUEUES, "the NVMe controller has %u I/O queues", disk.io_queues);
  for (u32 id = 2; id <= QUEUES; id++) {
    admin(ADMIN_DELETE_SQ, id, 0, 0, 0);
    admin(ADMIN_DELETE_CQ, id, 0, 0, 0);
  }
}

static void check_received(u32 number) {
  struct dma_buffer own;
  dma_buffer_open(&own, &disk_space, FILE_BYTES / PAGE_BYTES);
  for (u64 at = 0; at < FILE_BYTES; at += 65536)
    REQUIRE(nvme_wait(&disk, 1, nvme_start(&disk, 1, NVME_READ, FILE_AT + number * FILE_BYTES + at, &own, at, 65536, 8)) == 0,
            "the kernel's read fails");
  for (u64 i = 0; i < FILE_BYTES; i++)
    REQUIRE(received[number][i] == *dma_pointer(&own, i), "process %u: byte %lu that arrived differs", number, i);
  dma_buffer_close(&own);
}

static void thief_part(void) {
  step("a third process gives the controller another's pointer, the kernel's memory and nonsense");
  struct user_process *keeper = user_create("keeper", copier, 0), *p;
  user_run(collect);
  p = user_create("thief", thief, 0);
  user_run(collect);
  u64 secret = user_physical(keeper, SECRET);
  REQUIRE(secret != 0 && *(u64 *)secret == SECRET_WORD, "the secret has changed");
  struct iommu_fault f;
  u32 faults = 0;
  while (iommu_take_fault(&f)) {
    print("fault: cause=%u (%s) did=0x%x pasid=0x%x iova=0x%lx\n", f.cause, iommu_cause_name(f.cause), f.device_id, f.pasid, f.iotval);
    REQUIRE(f.with_pasid && f.pasid == p->pasid, "a fault is not the thief's");
    faults++;
  }
  const u64 *status = p->report + REPORT_STATUS;
  print("theft: own=0x%lx secret=0x%lx kernel=0x%lx nonsense=0x%lx faults=%u code=%u\n", status[0], status[1], status[2],
        status[3], faults, p->exit_code);
  REQUIRE(status[0] == 0, "the thief cannot read into its own memory");
  for (u32 i = 1; i < 4; i++) REQUIRE(status[i] == DATA_TRANSFER_ERROR, "attempt %u of the thief ended with 0x%lx", i, status[i]);
  REQUIRE(faults >= 3 && p->exit_code == 139, "%u faults, code %u", faults, p->exit_code);
  finish(p);
  finish(keeper);
}

void program(void) {
  machine_open();
  REQUIRE(pci_open() > 0, "no PCI function was found");
  REQUIRE(iommu_open(), "the machine has no IOMMU");
  struct pci_function *n = pci_find_class(NVME_CLASS, 0), *a = pci_find(NIC_VENDOR, NIC_DEVICE, 0),
                      *b = pci_find(NIC_VENDOR, NIC_DEVICE, 1);
  REQUIRE(n != NULL && a != NULL && b != NULL, "the machine lacks an NVMe controller or two NICs");
  step("process directories for the NVMe controller and the near NIC");
  bring_up(n, a, b);
  user_open(NULL, 0, 4096, call);
  user_add_device(&disk_directory, false);
  user_add_device(&wire_directory, false);
  for (u32 i = 0; i < 2; i++) received[i] = (u8 *)pages_take_together(FILE_BYTES / PAGE_BYTES);

  step("two processes read %lu KiB each into their heaps and send them, with queues of their own", FILE_BYTES >> 10);
  // The first page of the data, behind queues and list.
  shown_at = USER_HEAP + 3 * PAGE_BYTES;
  struct user_process *p[2];
  p[0] = user_create("first", copier, 0);
  p[1] = user_create("second", copier, 1);
  user_run(collect_and_show);
  for (u32 i = 0; i < 20; i++) {
    delay_microseconds(50);
    collect();
  }
  for (u32 i = 0; i < 2; i++) {
    const u64 *r = p[i]->report;
    print("process: name=%s pasid=0x%x code=%u commands=%lu frames=%lu bytes=%lu hart_faults=%u received=%u us=%lu\n", p[i]->name,
          p[i]->pasid, p[i]->exit_code, r[REPORT_COMMANDS], r[REPORT_FRAMES], FILE_BYTES, p[i]->hart_faults, frames[i],
          r[REPORT_TICKS] * 1000000 / clock_rate());
    REQUIRE(p[i]->exit_code == 0, "%s ended with code %u", p[i]->name, p[i]->exit_code);
    REQUIRE(frames[i] == FRAMES, "%u frames of %s arrived", frames[i], p[i]->name);
    check_received(i);
  }
  for (u32 i = 0; i < 2; i++) finish(p[i]);
  u32 pages = pages_left();
  thief_part();
  print("leaks: pages=%d strays=%u\n", (i32)(pages - pages_left()), strays);
  REQUIRE(pages_left() == pages, "%d pages were not given back", (i32)(pages - pages_left()));
}
