// PCI Express through ECAM: finding functions, placing their BARs, MSI-X.
#pragma once
#include "base.h"

struct pci_function {
  u64 config;  // address of its 4 KiB configuration space
  u32 rid;     // bus << 8 | device << 3 | function
  u16 vendor, device;
  u32 class_code;                  // class << 16 | subclass << 8 | interface
  u64 bar[6], bar_bytes[6];        // addresses the hart uses; 0 where there is no memory BAR
  u64 msix_table, msix_pending;    // 0 when it has no MSI-X
  u32 msix_capability, msix_entries;
};

/// Scans all buses and gives every memory BAR an address; returns the number of functions, 0 without a host bridge.
u32 pci_open(void);
u32 pci_count(void);
struct pci_function *pci_at(u32 index);
/// The `nth` function with this vendor and device number, or NULL.
struct pci_function *pci_find(u16 vendor, u16 device, u32 nth);
struct pci_function *pci_find_class(u32 class_code, u32 nth);
/// The first capability with this identifier, as an offset in the configuration space, or 0.
u32 pci_capability(const struct pci_function *f, u8 id);
/// Lets the function answer memory accesses and do DMA (or stops it from DMA).
void pci_bus_master(const struct pci_function *f, bool on);

/// Function-level reset (PCI Express 6.6.2); memory space and BARs come back as they were. False where there is none.
bool pci_function_reset(const struct pci_function *f);
/// The extended capability with this identifier, as an offset in the configuration space, or 0.
u32 pci_extended_capability(const struct pci_function *f, u16 id);

/// Points entry `entry` at `address` with `data` and unmasks it.
void msix_route(const struct pci_function *f, u32 entry, u64 address, u32 data);
void msix_on(const struct pci_function *f);

/// The device id that the IOMMU sees for this function, by the host bridge's iommu-map; false when it is behind none.
bool pci_iommu_id(const struct pci_function *f, u32 *phandle, u32 *device_id);
