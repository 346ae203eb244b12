#include "dma.h"
#include "crc32.h"
#include "imsic.h"
#include "iommu.h"
#include "pages.h"
#include "program.h"

// Sv39 leaf bits. U, because DMA without a process id is user access; A and D, because the IOMMU need not set them.
#define PTE_V 1ul
#define PTE_LEAF (PTE_V | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7)
#define PTE_ADDRESS(pte) (((pte) >> 10 & 0xfffffffffff) << 12)

// Device context (2.1.4).
#define DC_TC_V 1ul
#define FSC_SV39 (8ul << 60)

#define MSI_IOVA 0x670000000ul

static u32 pscids;

static void set_context(struct dma_space *space, u64 fsc) {
  u64 *context = iommu_context(space->device_id);
  for (u32 i = 0; i < iommu_context_words(); i++) context[i] = 0;
  context[2] = (u64)space->pscid << 12;
  context[3] = fsc;
  fence();
  context[0] = DC_TC_V;
  iommu_invalidate_context(space->device_id);
}

static bool behind_iommu(struct dma_space *space, const struct pci_function *f) {
  u32 phandle;
  return iommu_present() && pci_iommu_id(f, &phandle, &space->device_id) && phandle == iommu_phandle();
}

void dma_space_open(struct dma_space *space, const char *name, const struct pci_function *f, u64 first_iova) {
  space->name = name;
  space->device_id = f->rid;
  space->next = first_iova;
  space->together = false;
  space->translated = behind_iommu(space, f);
  if (!space->translated) return;
  space->pscid = ++pscids;
  space->root = (u64 *)page_take();
  set_context(space, FSC_SV39 | (u64)space->root >> 12);
}

void dma_space_open_bare(struct dma_space *space, const char *name, const struct pci_function *f) {
  space->name = name;
  space->device_id = f->rid;
  space->translated = false;
  struct dma_space context = *space;
  if (!behind_iommu(&context, f)) return;
  context.pscid = ++pscids;
  set_context(&context, 0);
}

void dma_space_open_process(struct dma_space *space, const char *name, const struct pci_function *f, u64 first_iova) {
  space->name = name;
  space->device_id = f->rid;
  space->next = first_iova;
  space->translated = true;
  REQUIRE(behind_iommu(space, f), "%s is behind no IOMMU", name);
  space->pscid = ++pscids;
  space->root = (u64 *)page_take();
}

static u64 *leaf(struct dma_space *space, u64 iova) {
  u64 *table = space->root;
  for (u32 level = 2; level > 0; level--) {
    u64 *entry = table + (iova >> (12 + 9 * level) & 0x1ff);
    if ((*entry & PTE_V) == 0) *entry = page_take() >> 2 | PTE_V;
    table = (u64 *)PTE_ADDRESS(*entry);
  }
  return table + (iova >> 12 & 0x1ff);
}

void dma_map(struct dma_space *space, u64 iova, u64 page) {
  *(volatile u64 *)leaf(space, iova) = page >> 2 | PTE_LEAF;
  fence();
}

void dma_unmap(struct dma_space *space, u64 iova) {
  *(volatile u64 *)leaf(space, iova) = 0;
  fence();
}

void dma_invalidate(struct dma_space *space, u64 iova) {
  if (space->translated) iommu_invalidate_page(space->pscid, iova);
}

u64 dma_msi_address(struct dma_space *space) {
  if (!space->translated) return imsic_address();
  dma_map(space, MSI_IOVA, imsic_address());
  dma_invalidate(space, MSI_IOVA);
  return MSI_IOVA;
}

void dma_buffer_open(struct dma_buffer *buffer, struct dma_space *space, u32 pages) {
  buffer->space = space;
  buffer->pages = pages;
  // The list of pages lies in pages of its own.
  buffer->page = (u64 *)pages_take_together(ALIGN_UP(pages * 8ul, PAGE_BYTES) / PAGE_BYTES);
  if (!space->translated) {
    buffer->iova = pages_take_together(pages);
    for (u32 i = 0; i < pages; i++) buffer->page[i] = buffer->iova + i * PAGE_BYTES;
    return;
  }
  buffer->iova = space->next;
  // A page without a mapping between two buffers catches a device that runs over the end.
  space->next += (pages + 1) * PAGE_BYTES;
  u64 run = space->together ? pages_take_together(pages) : 0;
  for (u32 i = 0; i < pages; i++) {
    buffer->page[i] = space->together ? run + i * PAGE_BYTES : page_take();
    dma_map(space, buffer->iova + i * PAGE_BYTES, buffer->page[i]);
  }
  // Only an IOMMU that caches absent entries would need it; one command a buffer is cheap.
  iommu_invalidate_space(space->pscid);
}

void dma_buffer_close(struct dma_buffer *buffer) {
  if (!buffer->space->translated) return;
  for (u32 i = 0; i < buffer->pages; i++) dma_unmap(buffer->space, buffer->iova + i * PAGE_BYTES);
  iommu_invalidate_space(buffer->space->pscid);
  for (u32 i = 0; i < buffer->pages; i++) page_give(buffer->page[i]);
  buffer->pages = 0;
}

void dma_copy_in(const struct dma_buffer *buffer, u64 offset, const void *from, u64 bytes) {
  for (u64 done = 0, part; done < bytes; done += part) {
    part = MIN(bytes - done, PAGE_BYTES - (offset + done) % PAGE_BYTES);
    memcpy(dma_pointer(buffer, offset + done), (const u8 *)from + done, part);
  }
}

void dma_copy_out(const struct dma_buffer *buffer, u64 offset, void *to, u64 bytes) {
  for (u64 done = 0, part; done < bytes; done += part) {
    part = MIN(bytes - done, PAGE_BYTES - (offset + done) % PAGE_BYTES);
    memcpy((u8 *)to + done, dma_pointer(buffer, offset + done), part);
  }
}

u32 dma_crc32(const struct dma_buffer *buffer, u64 offset, u64 bytes) {
  u32 crc = 0;
  for (u64 done = 0, part; done < bytes; done += part) {
    part = MIN(bytes - done, PAGE_BYTES - (offset + done) % PAGE_BYTES);
    crc = crc32(crc, dma_pointer(buffer, offset + done), part);
  }
  return crc;
}
