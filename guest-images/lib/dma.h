// Device addresses: one stage-1 address space (Sv39) a device, and buffers in it. Without an IOMMU: guest-physical.
#pragma once
#include "base.h"
#include "pci.h"

struct dma_space {
  const char *name;
  u32 device_id, pscid;
  bool translated;  // false: device addresses are guest-physical addresses
  u64 *root;
  u64 next;  // the next IOVA that a buffer gets
  bool together;  // buffers' pages lie together in memory too, as they do without translation
};

/// A buffer that is one run of device addresses; where there is an IOMMU its pages are scattered over the memory.
struct dma_buffer {
  struct dma_space *space;
  u64 iova;
  u32 pages;
  u64 *page;  // guest-physical address of each page
};

/// Gives the function an address space whose buffers start at `first_iova`, and lets its DMA through.
void dma_space_open(struct dma_space *space, const char *name, const struct pci_function *f, u64 first_iova);
/// Passes the function's DMA untranslated (first stage Bare), although there is an IOMMU.
void dma_space_open_bare(struct dma_space *space, const char *name, const struct pci_function *f);
/// An address space for a PASID of the device, bound by process_bind with its `root` and `pscid`.
void dma_space_open_process(struct dma_space *space, const char *name, const struct pci_function *f, u64 first_iova);

void dma_map(struct dma_space *space, u64 iova, u64 page);
/// Clears the leaf only; the IOMMU may go on using it until it is invalidated.
void dma_unmap(struct dma_space *space, u64 iova);
void dma_invalidate(struct dma_space *space, u64 iova);
/// The IOVA at which this space sees the hart's interrupt file: what MSI-X entries are given.
u64 dma_msi_address(struct dma_space *space);

void dma_buffer_open(struct dma_buffer *buffer, struct dma_space *space, u32 pages);
/// Gives the pages back and forgets the addresses.
void dma_buffer_close(struct dma_buffer *buffer);
static inline u64 dma_address(const struct dma_buffer *b, u64 offset) { return b->iova + offset; }
/// Where the hart sees the byte at `offset`; good until the end of its page.
static inline u8 *dma_pointer(const struct dma_buffer *b, u64 offset) {
  return (u8 *)(b->page[offset / PAGE_BYTES] + offset % PAGE_BYTES);
}
void dma_copy_in(const struct dma_buffer *buffer, u64 offset, const void *from, u64 bytes);
void dma_copy_out(const struct dma_buffer *buffer, u64 offset, void *to, u64 bytes);
u32 dma_crc32(const struct dma_buffer *buffer, u64 offset, u64 bytes);
