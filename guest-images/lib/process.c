#include "process.h"
#include "clock.h"
#include "imsic.h"
#include "iommu.h"
#include "pages.h"
#include "program.h"
#include "trap.h"

// Registers (5.9, 5.17, 5.20, 5.26).
#define PQB 0x38
#define PQH 0x40
#define PQT 0x44
#define PQCSR 0x50
#define IPSR 0x54
#define ICVEC 0x2f8
#define MSI_CFG_TBL 0x300
#define IPSR_PAGES 8
#define VECTOR_PAGES 2u
#define PQCSR_ENABLE 1u
#define PQCSR_INTERRUPT 2u
#define PQCSR_OVERFLOW 0x200u
#define PQCSR_ERRORS 0x300u
#define PQCSR_ON 0x10000u

#define CAPABILITY_PD8 38
#define DC_V 1ul
#define DC_PDTV 32ul
#define PC_V 1ul
#define PC_SUM 4ul
#define SV39 (8ul << 60)
#define PTE_ADDRESS(pte) (((pte) >> 10 & 0xfffffffffff) << 12)

// Commands (3.1.3, 3.1.4).
#define IODIR_INVAL_PDT (3ul | 1ul << 7)
#define IODIR_DV (1ul << 33)
#define ATS_INVAL 4ul
#define ATS_PRGR (4ul | 1ul << 7)
#define ATS_PV (1ul << 32)
#define INVAL_S (1ul << 11)

// Extended capabilities (PCI Express Base 6.0 7.8.9, 10.5).
#define CAPABILITY_ATS 0x0f
#define CAPABILITY_PRI 0x13
#define CAPABILITY_PASID 0x1b

bool process_mode_offered(u32 mode) { return iommu_capabilities() >> (CAPABILITY_PD8 + mode - 1) & 1; }

void process_directory_open(struct process_directory *d, const struct pci_function *f, u32 mode, u64 control) {
  u32 phandle;
  REQUIRE(iommu_present() && pci_iommu_id(f, &phandle, &d->device_id), "the function is behind no IOMMU");
  d->mode = mode;
  d->root = page_take();
  d->table_pages = 1;
  u64 *context = iommu_context(d->device_id);
  context[0] = 0;
  fence();
  iommu_invalidate_context(d->device_id);
  for (u32 i = 1; i < iommu_context_words(); i++) context[i] = 0;
  context[3] = (u64)mode << 60 | d->root >> 12;
  fence();
  context[0] = DC_V | DC_PDTV | control;
  iommu_invalidate_context(d->device_id);
}

// The process context of `pasid`: 8 bits in the leaf table, 9 in each above it (2.1.2.2).
static u64 *context_of(struct process_directory *d, u32 pasid) {
  u64 table = d->root;
  for (u32 level = d->mode - 1; level > 0; level--) {
    u64 *entry = (u64 *)table + (pasid >> (9 * level - 1) & 0x1ff);
    if ((*entry & 1) == 0) {
      *entry = page_take() >> 2 | 1;
      d->table_pages++;
    }
    table = PTE_ADDRESS(*entry);
  }
  return (u64 *)table + (pasid & 0xff) * 2;
}

u64 process_context_address(struct process_directory *d, u32 pasid) { return (u64)context_of(d, pasid); }

static void invalidate_process(struct process_directory *d, u32 pasid) {
  iommu_command(IODIR_INVAL_PDT | (u64)pasid << 12 | IODIR_DV | (u64)d->device_id << 40, 0);
  REQUIRE(iommu_fence(), "IOFENCE.C does not complete");
}

void process_bind(struct process_directory *d, u32 pasid, u64 root, u32 pscid) {
  u64 *context = context_of(d, pasid);
  context[1] = SV39 | root >> 12;
  fence();
  *(volatile u64 *)context = PC_V | (u64)pscid << 12;
  fence();
  invalidate_process(d, pasid);
}

void process_unbind(struct process_directory *d, u32 pasid, u32 pscid) {
  *(volatile u64 *)context_of(d, pasid) = 0;
  fence();
  invalidate_process(d, pasid);
  iommu_invalidate_space(pscid);
}

static void free_tables(u64 table, u32 levels) {
  for (u32 i = 0; levels > 1 && i < 512; i++) {
    u64 entry = ((u64 *)table)[i];
    if (entry & 1) free_tables(PTE_ADDRESS(entry), levels - 1);
  }
  page_give(table);
}

void process_directory_close(struct process_directory *d) {
  iommu_context(d->device_id)[0] = 0;
  fence();
  iommu_invalidate_context(d->device_id);
  free_tables(d->root, d->mode);
}

static void device_invalidation(u32 device_id, bool with_pasid, u32 pasid, u64 payload) {
  iommu_command(ATS_INVAL | (u64)(with_pasid ? pasid : 0) << 12 | (with_pasid ? ATS_PV : 0) | (u64)device_id << 40,
                payload);
  REQUIRE(iommu_fence(), "IOFENCE.C behind ATS.INVAL does not complete");
}

void process_invalidate_device(u32 device_id, bool with_pasid, u32 pasid, u64 address, u32 log2_bytes) {
  // S says that the zero nearest bit 12 gives the size (PCI Express Base 6.0 10.2.3.2).
  u64 payload = address & ~((1ul << log2_bytes) - 1);
  if (log2_bytes > 12) payload |= INVAL_S | (((1ul << (log2_bytes - 1)) - 1) & ~0xffful);
  device_invalidation(device_id, with_pasid, pasid, payload);
}

void process_invalidate_device_all(u32 device_id, bool with_pasid, u32 pasid) {
  device_invalidation(device_id, with_pasid, pasid, 0x7ffffffffffff000ul | INVAL_S);
}

static u64 *queue;
static u32 queue_bits;
static void (*on_request)(const struct page_request *);
static volatile u32 interrupts, overflows;

static void drain(void) {
  u64 registers = iommu_registers();
  u32 mask = (1u << queue_bits) - 1;
  u32 head = mmio_read32(registers + PQH) & mask;
  // Read again until nothing is left: a record that comes meanwhile raises no second interrupt.
  while (head != (mmio_read32(registers + PQT) & mask)) {
    u64 low = queue[2 * head], high = queue[2 * head + 1];
    struct page_request r = {.device_id = (u32)(low >> 40), .pasid = (u32)(low >> 12 & 0xfffff)};
    r.with_pasid = low >> 32 & 1, r.privileged = low >> 33 & 1, r.execute = low >> 34 & 1;
    r.read = high & 1, r.write = high >> 1 & 1, r.last = high >> 2 & 1;
    r.group = (u32)(high >> 3 & 0x1ff);
    r.address = high & ~0xffful;
    head = (head + 1) & mask;
    mmio_write32(registers + PQH, head);
    on_request(&r);
  }
}

static void on_pages(void *context) {
  (void)context;
  u64 registers = iommu_registers();
  interrupts++;
  mmio_write32(registers + IPSR, IPSR_PAGES);
  drain();
  u32 csr = mmio_read32(registers + PQCSR);
  if (csr & PQCSR_OVERFLOW) overflows++;
  if (csr & PQCSR_ERRORS) mmio_write32(registers + PQCSR, csr);
}

void page_requests_hold(bool held) {
  // Held, the queue may not interrupt: an error that nobody clears would do so without end.
  if (held) {
    mmio_write32(iommu_registers() + PQCSR, PQCSR_ENABLE);
    return;
  }
  interrupts_off();
  drain();
  if (mmio_read32(iommu_registers() + PQCSR) & PQCSR_OVERFLOW) overflows++;
  mmio_write32(iommu_registers() + PQCSR, PQCSR_ENABLE | PQCSR_INTERRUPT | PQCSR_ERRORS);
  interrupts_on();
}

void page_requests_open(u32 log2_records, void (*handler)(const struct page_request *)) {
  static u32 identity;
  u64 registers = iommu_registers();
  if (identity == 0) identity = imsic_take(on_pages, NULL);
  if (queue == NULL) queue = (u64 *)pages_take_together(4);
  queue_bits = log2_records;
  on_request = handler;
  u64 row = registers + MSI_CFG_TBL + 16 * VECTOR_PAGES;
  mmio_write64(row, imsic_address());
  mmio_write32(row + 8, identity);
  mmio_write32(row + 12, 0);
  mmio_write64(registers + ICVEC, (mmio_read64(registers + ICVEC) & 0xfff) | VECTOR_PAGES << 12);
  mmio_write64(registers + PQB, (u64)queue >> 2 | (log2_records - 1));
  mmio_write32(registers + PQH, 0);
  mmio_write32(registers + IPSR, IPSR_PAGES);
  mmio_write32(registers + PQCSR, PQCSR_ENABLE | PQCSR_INTERRUPT | PQCSR_ERRORS);
  u64 deadline = clock_now() + clock_rate();
  while ((mmio_read32(registers + PQCSR) & PQCSR_ON) == 0)
    REQUIRE(clock_now() < deadline, "the page-request queue does not start");
}

void page_requests_close(void) {
  u64 registers = iommu_registers();
  mmio_write32(registers + PQCSR, 0);
  u64 deadline = clock_now() + clock_rate();
  while (mmio_read32(registers + PQCSR) & PQCSR_ON)
    REQUIRE(clock_now() < deadline, "the page-request queue does not stop");
}

void page_respond(const struct page_request *r, u32 code) {
  u64 word = ATS_PRGR | (u64)r->device_id << 40;
  if (r->with_pasid) word |= (u64)r->pasid << 12 | ATS_PV;
  iommu_command(word, (u64)(r->device_id & 0xffff) << 48 | (u64)code << 44 | (u64)r->group << 32);
}

u32 page_request_interrupts(void) { return interrupts; }
u32 page_request_overflows(void) { return overflows; }

bool process_enable(const struct pci_function *f, u32 wanted) {
  u32 pasid = pci_extended_capability(f, CAPABILITY_PASID), ats = pci_extended_capability(f, CAPABILITY_ATS);
  u32 pri = pci_extended_capability(f, CAPABILITY_PRI);
  if (((wanted & ENABLE_PASID) && pasid == 0) || ((wanted & ENABLE_ATS) && ats == 0) ||
      ((wanted & ENABLE_PRI) && pri == 0))
    return false;
  // PASID first: it may not change while ATS is on. Execute and privileged requests are taken where they are offered.
  if (ats != 0) mmio_write16(f->config + ats + 6, 0);
  if (pri != 0) mmio_write16(f->config + pri + 4, 0);
  if (pasid != 0)
    mmio_write16(f->config + pasid + 6,
                 (u16)(wanted & ENABLE_PASID ? 1 | (mmio_read16(f->config + pasid + 4) & 6) : 0));
  if (wanted & ENABLE_PRI) {
    mmio_write32(f->config + pri + 12, mmio_read32(f->config + pri + 8));
    mmio_write16(f->config + pri + 4, 1);
  }
  if (wanted & ENABLE_ATS) mmio_write16(f->config + ats + 6, 0x8000);
  return true;
}
