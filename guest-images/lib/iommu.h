// The RISC-V IOMMU (specification 1.0.1): device directory, queues, commands, interrupts.
#pragma once
#include "base.h"

struct iommu_fault {
  u32 cause, transaction, device_id;  // CAUSE, TTYP, DID of 3.2
  u64 iotval, iotval2;
  bool with_pasid;
  u32 pasid;
};

/// Brings up the IOMMU of the device tree, all devices blocked; false when there is none. After `pci_open`, since it may
/// be a PCI function.
bool iommu_open(void);
bool iommu_present(void);
u32 iommu_phandle(void);
u64 iommu_registers(void);
u64 iommu_capabilities(void);

/// The address of the device context of `device_id`; the directory grows as needed.
u64 *iommu_context(u32 device_id);
/// Bare or extended device contexts: 4 or 8 doublewords (2.1.4).
u32 iommu_context_words(void);

/// IODIR.INVAL_DDT for one device, and the fence.
void iommu_invalidate_context(u32 device_id);
/// IOTINVAL.VMA for one page of one address space, and the fence.
void iommu_invalidate_page(u32 pscid, u64 iova);
/// IOTINVAL.VMA for a whole address space, and the fence.
void iommu_invalidate_space(u32 pscid);
/// Puts any command in the queue without waiting.
void iommu_command(u64 word0, u64 word1);
/// IOFENCE.C that stores to memory; false when it does not complete.
bool iommu_fence(void);

/// Takes the oldest fault record that the interrupt handler has collected; false when there is none.
bool iommu_take_fault(struct iommu_fault *fault);
/// Sleeps until there is a record.
bool iommu_wait_fault(struct iommu_fault *fault, u64 milliseconds);
u32 iommu_fault_interrupts(void);
u32 iommu_command_interrupts(void);
/// The name of a fault's cause (table 11) and of its transaction type (table 12).
const char *iommu_cause_name(u32 cause);
const char *iommu_transaction_name(u32 transaction);
