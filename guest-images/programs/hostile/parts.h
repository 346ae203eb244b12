// The parts of the program, in the order in which they run. None of them asks whether anything works.
#pragma once
#include "nic.h"
#include "nvme.h"

/// Random choices; all follow from the seed.
u64 wild(void);
u32 below(u32 limit);
/// An address that is likely to hurt, but never in the program's own memory.
u64 wild_address(void);
/// Scratch memory that devices may overwrite: pages side by side.
#define ARENA_PAGES 64u
extern u64 arena;

/// `count` reads and writes of 1, 2, 4 or 8 bytes, aligned or not, all over [base, base + bytes).
void poke(u64 base, u64 bytes, u32 count);
/// The number of accesses so far, and how many of them trapped.
extern u64 accesses, trapped;

/// Nonsense in the configuration space of every endpoint; afterwards all is as it was.
void config_part(u32 count);
/// Nonsense in every IOMMU register; afterwards it is off.
void iommu_registers_part(u64 registers, u32 count);
/// Garbage commands, wild directories and page tables, with devices doing DMA through them.
void iommu_tables_part(u64 registers, u32 rounds);
/// Nonsense in every NVMe register and doorbell; afterwards the controller is disabled.
void nvme_registers_part(const struct pci_function *f, u32 count);
/// A controller that is up and gets garbage commands.
void nvme_commands_part(const struct pci_function *f, u64 device_arena, u32 rounds);
/// Nonsense in every NIC register and garbage descriptors; afterwards it is reset.
void nic_part(const struct pci_function *f, u64 device_arena, u32 count);
