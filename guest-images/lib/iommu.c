#include "iommu.h"
#include "clock.h"
#include "device-tree.h"
#include "imsic.h"
#include "pages.h"
#include "pci.h"
#include "program.h"

// Register offsets (5.3 … 5.29).
#define CAPABILITIES 0x00
#define FCTL 0x08
#define DDTP 0x10
#define CQB 0x18
#define CQH 0x20
#define CQT 0x24
#define FQB 0x28
#define FQH 0x30
#define FQT 0x34
#define CQCSR 0x48
#define FQCSR 0x4c
#define IPSR 0x54
#define ICVEC 0x2f8
#define MSI_CFG_TBL 0x300

#define CLASS_IOMMU 0x080600

#define CAPABILITIES_SV39 (1ul << 9)
#define CAPABILITIES_MSI_FLAT (1ul << 22)
#define CAPABILITIES_IGS(c) ((c) >> 28 & 3)
#define IGS_WSI 1
#define FCTL_WSI 2
#define DDTP_BUSY (1ul << 4)
#define DDTP_3LVL 4
#define QUEUE_ENABLE 1
#define QUEUE_INTERRUPT 2
#define QUEUE_ON 0x10000
#define QUEUE_BUSY 0x20000
#define CQCSR_ERRORS 0xf00  // cqmf, cmd_to, cmd_ill, fence_w_ip
#define CQCSR_FAILED 0x500  // cqmf, cmd_ill: the command at cqh fails
#define FQCSR_ERRORS 0x300  // fqmf, fqof
#define IPSR_COMMAND 1
#define IPSR_FAULT 2
#define VECTOR_COMMAND 0u
#define VECTOR_FAULT 1u

// Commands (3.1).
#define IOTINVAL_VMA 1ul
#define IOFENCE_C 2ul
#define IODIR_INVAL_DDT 3ul
#define OPERAND_VALID_ADDRESS (1ul << 10)
#define IOTINVAL_PSCV (1ul << 32)
#define IOFENCE_PR_PW (3ul << 12)
#define IODIR_DV (1ul << 33)

#define CQ_LOG2 8  // 256 commands of 16 bytes
#define FQ_LOG2 7  // 128 records of 32 bytes
#define FAULTS_MAX 256u

static u64 registers, capabilities, directory;
static u32 phandle, command_tail, context_words;
static u64 *command_queue, *fault_queue;
static volatile u32 *fence_cell;
static u32 fence_value;
static struct iommu_fault faults[FAULTS_MAX];
static volatile u32 faults_in;
static u32 faults_out;
static volatile u32 fault_interrupts, command_interrupts;

bool iommu_present(void) { return registers != 0; }
u32 iommu_phandle(void) { return phandle; }
u64 iommu_registers(void) { return registers; }
u64 iommu_capabilities(void) { return capabilities; }
u32 iommu_context_words(void) { return context_words; }
u32 iommu_fault_interrupts(void) { return fault_interrupts; }
u32 iommu_command_interrupts(void) { return command_interrupts; }

static void on_fault(void *context) {
  (void)context;
  fault_interrupts++;
  // The bit first: a record that arrives while the queue is drained raises it again.
  mmio_write32(registers + IPSR, IPSR_FAULT);
  u32 head = mmio_read32(registers + FQH) & ((1u << FQ_LOG2) - 1);
  u32 tail = mmio_read32(registers + FQT) & ((1u << FQ_LOG2) - 1);
  for (; head != tail; head = (head + 1) & ((1u << FQ_LOG2) - 1)) {
    u64 *record = fault_queue + 4 * head;
    if (faults_in - faults_out < FAULTS_MAX) {
      struct iommu_fault *f = &faults[faults_in % FAULTS_MAX];
      f->cause = (u32)(record[0] & 0xfff);
      f->transaction = (u32)(record[0] >> 34 & 0x3f);
      f->device_id = (u32)(record[0] >> 40);
      f->with_pasid = record[0] >> 32 & 1;
      f->pasid = (u32)(record[0] >> 12 & 0xfffff);
      f->iotval = record[2];
      f->iotval2 = record[3];
      faults_in++;
    }
  }
  mmio_write32(registers + FQH, head);
  u32 csr = mmio_read32(registers + FQCSR);
  if (csr & FQCSR_ERRORS) mmio_write32(registers + FQCSR, csr);
}

static void on_command(void *context) {
  (void)context;
  command_interrupts++;
  // After an error cqh still names the command, which would fail again: a fence that does nothing takes its place
  // before the error bits are cleared (3.1). A fence that reports a timeout (cmd_to) has not failed: it runs again, and
  // completes, once the bit is cleared (3.1.2). The invalidation may be one of a former owner of the queue.
  u32 csr = mmio_read32(registers + CQCSR), head = mmio_read32(registers + CQH);
  if (csr & CQCSR_FAILED) {
    u32 entry = head & ((1u << CQ_LOG2) - 1);
    command_queue[2 * entry] = IOFENCE_C;
    command_queue[2 * entry + 1] = 0;
  }
  mmio_write32(registers + CQCSR, csr);
  // Commands run again at once. Where the queue itself cannot be read the same entry has failed again, and so would the
  // interrupt come again for ever.
  csr = mmio_read32(registers + CQCSR);
  if ((csr & CQCSR_ERRORS) && mmio_read32(registers + CQH) == head)
    mmio_write32(registers + CQCSR, csr & ~(u32)(QUEUE_INTERRUPT | CQCSR_ERRORS));
  mmio_write32(registers + IPSR, IPSR_COMMAND);
}

static bool settled(u64 offset, u32 bits, u32 expected) {
  u64 deadline = clock_now() + clock_rate();
  while ((mmio_read32(registers + offset) & bits) != expected)
    if (clock_now() > deadline) return false;
  return true;
}

static void set_directory(u64 value) {
  REQUIRE(settled(DDTP, DDTP_BUSY, 0), "ddtp stays busy");
  mmio_write64(registers + DDTP, value);
  REQUIRE(settled(DDTP, DDTP_BUSY, 0), "ddtp stays busy");
}

static void route(u32 vector, void (*handler)(void *)) {
  static u32 identities[2];
  if (identities[vector] == 0) identities[vector] = imsic_take(handler, NULL);
  u64 row = registers + MSI_CFG_TBL + 16 * vector;
  mmio_write64(row, imsic_address());
  mmio_write32(row + 8, identities[vector]);
  mmio_write32(row + 12, 0);
}

// A platform device, or a PCI function: then BAR 0 holds the registers, and msi_cfg_tbl is the MSI-X table.
static bool find_registers(void) {
  dt_node node = dt_compatible(DT_NONE, "riscv,iommu");
  if (node != DT_NONE) {
    phandle = dt_u32(node, "phandle", 0);
    return dt_reg(node, 0, &registers, NULL);
  }
  node = dt_compatible(DT_NONE, "riscv,pci-iommu");
  struct pci_function *function = pci_find_class(CLASS_IOMMU, 0);
  if (node == DT_NONE || function == NULL || function->bar[0] == 0) return false;
  phandle = dt_u32(node, "phandle", 0);
  registers = function->bar[0];
  REQUIRE(function->msix_table == registers + MSI_CFG_TBL, "the MSI-X table of the IOMMU is not its msi_cfg_tbl");
  pci_bus_master(function, true);
  msix_on(function);
  return true;
}

bool iommu_open(void) {
  if (!find_registers()) return false;
  capabilities = mmio_read64(registers + CAPABILITIES);
  REQUIRE((capabilities & 0xff) == 0x10, "IOMMU version 0x%lx is not 1.0", capabilities & 0xff);
  REQUIRE(capabilities & CAPABILITIES_SV39, "the IOMMU has no Sv39");
  REQUIRE(CAPABILITIES_IGS(capabilities) != IGS_WSI, "the IOMMU cannot send MSIs");
  context_words = capabilities & CAPABILITIES_MSI_FLAT ? 8 : 4;

  // Off and quiet first: firmware, or an earlier owner, may have left it running.
  set_directory(0);
  mmio_write32(registers + CQCSR, 0);
  mmio_write32(registers + FQCSR, 0);
  REQUIRE(settled(CQCSR, QUEUE_ON | QUEUE_BUSY, 0), "the command queue does not stop");
  REQUIRE(settled(FQCSR, QUEUE_ON | QUEUE_BUSY, 0), "the fault queue does not stop");
  mmio_write32(registers + FCTL, mmio_read32(registers + FCTL) & ~(u32)FCTL_WSI);
  REQUIRE((mmio_read32(registers + FCTL) & FCTL_WSI) == 0, "fctl.WSI stays set");

  mmio_write64(registers + ICVEC, VECTOR_FAULT << 4 | VECTOR_COMMAND);
  u64 icvec = mmio_read64(registers + ICVEC);
  REQUIRE((icvec & 0xff) == (VECTOR_FAULT << 4 | VECTOR_COMMAND), "icvec reads 0x%lx", icvec);
  route(VECTOR_COMMAND, on_command);
  route(VECTOR_FAULT, on_fault);

  if (command_queue == NULL) {
    command_queue = (u64 *)pages_take_together(1);
    fault_queue = (u64 *)pages_take_together(1);
    fence_cell = (volatile u32 *)page_take();
  }
  directory = page_take();
  command_tail = 0;
  mmio_write64(registers + CQB, (u64)command_queue >> 2 | (CQ_LOG2 - 1));
  mmio_write64(registers + FQB, (u64)fault_queue >> 2 | (FQ_LOG2 - 1));
  mmio_write32(registers + CQT, 0);
  mmio_write32(registers + FQH, 0);
  mmio_write32(registers + IPSR, 0xf);
  mmio_write32(registers + CQCSR, QUEUE_ENABLE | QUEUE_INTERRUPT | CQCSR_ERRORS);
  mmio_write32(registers + FQCSR, QUEUE_ENABLE | QUEUE_INTERRUPT | FQCSR_ERRORS);
  REQUIRE(settled(CQCSR, QUEUE_ON | QUEUE_BUSY, QUEUE_ON), "the command queue does not start");
  REQUIRE(settled(FQCSR, QUEUE_ON | QUEUE_BUSY, QUEUE_ON), "the fault queue does not start");

  set_directory(directory >> 2 | DDTP_3LVL);
  REQUIRE((mmio_read64(registers + DDTP) & 0xf) == DDTP_3LVL, "the IOMMU has no 3-level device directory");
  iommu_command(IODIR_INVAL_DDT, 0);
  iommu_command(IOTINVAL_VMA, 0);
  REQUIRE(iommu_fence(), "the first IOFENCE.C does not complete");
  return true;
}

u64 *iommu_context(u32 device_id) {
  // Base format: 7, 9 and 8 bits of the device id; extended format: 6, 9 and 9 bits (2.1).
  u32 leaf_bits = context_words == 8 ? 6 : 7;
  u32 index[2] = {device_id >> (leaf_bits + 9), device_id >> leaf_bits & 0x1ff};
  u64 table = directory;
  for (u32 i = 0; i < 2; i++) {
    u64 *entry = (u64 *)table + index[i];
    if ((*entry & 1) == 0) *entry = page_take() >> 2 | 1;
    table = (*entry >> 10 & 0xfffffffffff) << 12;
  }
  return (u64 *)table + (device_id & ((1u << leaf_bits) - 1)) * context_words;
}

void iommu_command(u64 word0, u64 word1) {
  u32 next = (command_tail + 1) & ((1u << CQ_LOG2) - 1);
  u64 deadline = clock_now() + clock_rate();
  while (mmio_read32(registers + CQH) == next) REQUIRE(clock_now() < deadline, "the command queue stays full");
  command_queue[2 * command_tail] = word0;
  command_queue[2 * command_tail + 1] = word1;
  command_tail = next;
  mmio_write32(registers + CQT, command_tail);
}

bool iommu_fence(void) {
  u32 value = ++fence_value;
  iommu_command(IOFENCE_C | OPERAND_VALID_ADDRESS | IOFENCE_PR_PW | (u64)value << 32, (u64)fence_cell >> 2);
  u64 deadline = clock_now() + clock_rate();
  while (*fence_cell != value)
    if (clock_now() > deadline) return false;
  fence();
  return true;
}

void iommu_invalidate_context(u32 device_id) {
  iommu_command(IODIR_INVAL_DDT | IODIR_DV | (u64)device_id << 40, 0);
  REQUIRE(iommu_fence(), "IOFENCE.C does not complete");
}

void iommu_invalidate_page(u32 pscid, u64 iova) {
  iommu_command(IOTINVAL_VMA | OPERAND_VALID_ADDRESS | IOTINVAL_PSCV | (u64)pscid << 12, iova >> 12 << 10);
  REQUIRE(iommu_fence(), "IOFENCE.C does not complete");
}

void iommu_invalidate_space(u32 pscid) {
  iommu_command(IOTINVAL_VMA | IOTINVAL_PSCV | (u64)pscid << 12, 0);
  REQUIRE(iommu_fence(), "IOFENCE.C does not complete");
}

bool iommu_take_fault(struct iommu_fault *fault) {
  if (faults_out == faults_in) return false;
  *fault = faults[faults_out++ % FAULTS_MAX];
  return true;
}

static bool has_fault(void *context) {
  (void)context;
  return faults_out != faults_in;
}

bool iommu_wait_fault(struct iommu_fault *fault, u64 milliseconds) {
  wait_until(has_fault, NULL, milliseconds);
  return iommu_take_fault(fault);
}

const char *iommu_cause_name(u32 cause) {
  static const struct {
    u32 cause;
    const char *name;
  } names[] = {
      {1, "instruction access fault"}, {4, "read address misaligned"},  {5, "read access fault"},
      {6, "write address misaligned"}, {7, "write access fault"},       {12, "instruction page fault"},
      {13, "read page fault"},         {15, "write page fault"},        {20, "instruction guest page fault"},
      {21, "read guest page fault"},   {23, "write guest page fault"},  {256, "all inbound transactions disallowed"},
      {257, "DDT entry load access fault"}, {258, "DDT entry not valid"},   {259, "DDT entry misconfigured"},
      {260, "transaction type disallowed"}, {261, "MSI PTE load access fault"}, {262, "MSI PTE not valid"},
      {263, "MSI PTE misconfigured"},  {264, "MRIF access fault"},      {265, "PDT entry load access fault"},
      {266, "PDT entry not valid"},    {267, "PDT entry misconfigured"},
  };
  for (u32 i = 0; i < LENGTH(names); i++)
    if (names[i].cause == cause) return names[i].name;
  return "other cause";
}

const char *iommu_transaction_name(u32 transaction) {
  static const char *const names[] = {"none",             "untranslated fetch", "untranslated read",
                                      "untranslated write", "reserved",       "translated fetch",
                                      "translated read",  "translated write",   "ATS translation request",
                                      "message"};
  return transaction < LENGTH(names) ? names[transaction] : "other transaction";
}
