#include "nic.h"
#include "clock.h"
#include "imsic.h"
#include "program.h"

// Registers (82574 datasheet, chapter 10).
#define CTRL 0x0000
#define STATUS 0x0008
#define CTRL_EXT 0x0018
#define ICR 0x00c0
#define ITR 0x00c4
#define IMS 0x00d0
#define IMC 0x00d8
#define EIAC 0x00dc
#define IVAR 0x00e4
#define EITR(n) (0x00e8 + 4 * (n))
#define RCTL 0x0100
#define TCTL 0x0400
#define TIPG 0x0410
#define RDBAL 0x2800
#define RDBAH 0x2804
#define RDLEN 0x2808
#define RDH 0x2810
#define RDT 0x2818
#define TDBAL 0x3800
#define TDBAH 0x3804
#define TDLEN 0x3808
#define TDH 0x3810
#define TDT 0x3818
#define RXCSUM 0x5000
#define RFCTL 0x5008
#define MTA 0x5200
#define RAL0 0x5400
#define RAH0 0x5404

#define CTRL_FULL_DUPLEX (1u << 0)
#define CTRL_SET_LINK_UP (1u << 6)
#define CTRL_RESET (1u << 26)
#define STATUS_LINK_UP 2u
#define CTRL_EXT_PBA_CLEAR (1u << 31)
#define IVAR_VALID 8u
#define IMS_RXQ0 (1u << 20)
#define IMS_TXQ0 (1u << 22)
#define IMS_OTHER (1u << 24)
#define RCTL_ENABLE (1u << 1)
#define RCTL_BROADCAST (1u << 15)
#define RCTL_STRIP_CRC (1u << 26)
#define TCTL_ENABLE (1u << 1)
#define TCTL_PAD_SHORT (1u << 3)
#define TCTL_COLLISION (15u << 4 | 63u << 12)
#define TIPG_COPPER (8u | 8u << 10 | 6u << 20)
#define RFCTL_EXTENDED (1u << 15)

#define TX_END 1u
#define TX_FCS 2u
#define TX_REPORT 8u
#define DONE 1u
#define RX_END 2u

// Frame buffers are 2048 bytes apart and begin 1200 bytes into a page, so that every second one crosses a page border.
#define FRAME_STRIDE 2048u
#define FRAME_SHIFT 1200u
#define FRAME_PAGES (NIC_RING * FRAME_STRIDE / 4096 + 1)

#define VECTOR_RX 0u
#define VECTOR_TX 1u
#define VECTOR_OTHER 2u

static u32 reg_read(struct nic *nic, u32 offset) { return mmio_read32(nic->registers + offset); }
static void reg_write(struct nic *nic, u32 offset, u32 value) { mmio_write32(nic->registers + offset, value); }

static void on_rx(void *context) {
  struct nic *nic = context;
  nic->rx_interrupts++;
  reg_write(nic, IMS, IMS_RXQ0);
}

static void on_tx(void *context) {
  struct nic *nic = context;
  nic->tx_interrupts++;
  reg_write(nic, IMS, IMS_TXQ0);
}

static void on_other(void *context) {
  struct nic *nic = context;
  reg_read(nic, ICR);
  reg_write(nic, IMS, IMS_OTHER);
}

static volatile u64 *rx_descriptor(struct nic *nic, u32 index) {
  return (volatile u64 *)dma_pointer(&nic->rx_ring, index * 16);
}

static volatile u64 *tx_descriptor(struct nic *nic, u32 index) {
  return (volatile u64 *)dma_pointer(&nic->tx_ring, index * 16);
}

static u64 frame_offset(u32 index) { return FRAME_SHIFT + (u64)index * FRAME_STRIDE; }

static void refill(struct nic *nic, u32 index) {
  volatile u64 *d = rx_descriptor(nic, index);
  d[0] = dma_address(&nic->rx_frames, frame_offset(index));
  d[1] = 0;
}

static bool link_is_up(void *context) { return reg_read(context, STATUS) & STATUS_LINK_UP; }

static void route_interrupts(struct nic *nic) {
  u64 address = dma_msi_address(nic->space);
  msix_route(nic->function, VECTOR_RX, address, imsic_take(on_rx, nic));
  msix_route(nic->function, VECTOR_TX, address, imsic_take(on_tx, nic));
  msix_route(nic->function, VECTOR_OTHER, address, imsic_take(on_other, nic));
  msix_on(nic->function);
  reg_write(nic, CTRL_EXT, reg_read(nic, CTRL_EXT) | CTRL_EXT_PBA_CLEAR);
  reg_write(nic, IVAR, (VECTOR_RX | IVAR_VALID) | (VECTOR_TX | IVAR_VALID) << 8 | (VECTOR_OTHER | IVAR_VALID) << 16);
  // The queue causes clear themselves when their message is sent; nothing is moderated.
  reg_write(nic, EIAC, IMS_RXQ0 | IMS_TXQ0);
  reg_write(nic, ITR, 0);
  for (u32 i = 0; i < 3; i++) reg_write(nic, EITR(i), 0);
  reg_write(nic, IMS, IMS_RXQ0 | IMS_TXQ0 | IMS_OTHER);
}

const char *nic_open(struct nic *nic, const char *name, struct pci_function *function, struct dma_space *space) {
  memset(nic, 0, sizeof *nic);
  nic->name = name;
  nic->function = function;
  nic->space = space;
  nic->registers = function->bar[0];
  if (function->msix_entries < 3) return "the NIC has fewer than 3 MSI-X vectors";

  reg_write(nic, IMC, 0xffffffff);
  reg_write(nic, RCTL, 0);
  reg_write(nic, TCTL, 0);
  reg_write(nic, CTRL, reg_read(nic, CTRL) | CTRL_RESET);
  delay_microseconds(20);
  u64 deadline = clock_now() + clock_rate();
  while (reg_read(nic, CTRL) & CTRL_RESET)
    if (clock_now() > deadline) return "the NIC does not come out of reset";
  reg_write(nic, IMC, 0xffffffff);
  reg_read(nic, ICR);

  u32 low = reg_read(nic, RAL0), high = reg_read(nic, RAH0);
  for (u32 i = 0; i < 4; i++) nic->mac[i] = (u8)(low >> 8 * i);
  nic->mac[4] = (u8)high;
  nic->mac[5] = (u8)(high >> 8);
  if ((high >> 31) == 0) return "the NIC has no address in its EEPROM";
  for (u32 i = 0; i < 128; i++) reg_write(nic, MTA + 4 * i, 0);
  reg_write(nic, CTRL, reg_read(nic, CTRL) | CTRL_SET_LINK_UP | CTRL_FULL_DUPLEX);

  dma_buffer_open(&nic->rx_ring, space, 1);
  dma_buffer_open(&nic->tx_ring, space, 1);
  dma_buffer_open(&nic->rx_frames, space, FRAME_PAGES);
  dma_buffer_open(&nic->tx_frames, space, FRAME_PAGES);
  for (u32 i = 0; i < NIC_RING; i++) refill(nic, i);
  pci_bus_master(function, true);
  route_interrupts(nic);

  reg_write(nic, RXCSUM, 0);
  reg_write(nic, RFCTL, RFCTL_EXTENDED);
  reg_write(nic, RDBAL, (u32)nic->rx_ring.iova);
  reg_write(nic, RDBAH, (u32)(nic->rx_ring.iova >> 32));
  reg_write(nic, RDLEN, NIC_RING * 16);
  reg_write(nic, RDH, 0);
  reg_write(nic, RDT, 0);
  reg_write(nic, TDBAL, (u32)nic->tx_ring.iova);
  reg_write(nic, TDBAH, (u32)(nic->tx_ring.iova >> 32));
  reg_write(nic, TDLEN, NIC_RING * 16);
  reg_write(nic, TDH, 0);
  reg_write(nic, TDT, 0);
  reg_write(nic, TIPG, TIPG_COPPER);
  reg_write(nic, TCTL, TCTL_ENABLE | TCTL_PAD_SHORT | TCTL_COLLISION);
  reg_write(nic, RCTL, RCTL_ENABLE | RCTL_BROADCAST | RCTL_STRIP_CRC);
  reg_write(nic, RDT, NIC_RING - 1);
  if (!wait_until(link_is_up, nic, 5000)) return "the NIC's link stays down";
  return NULL;
}

void nic_close(struct nic *nic) {
  reg_write(nic, RCTL, 0);
  reg_write(nic, TCTL, 0);
  reg_write(nic, IMC, 0xffffffff);
}

// Takes back the descriptors that the NIC has reported.
static void clean(struct nic *nic) {
  while (nic->tx_clean != nic->tx_next && (tx_descriptor(nic, nic->tx_clean)[1] >> 32 & DONE) != 0)
    nic->tx_clean = (nic->tx_clean + 1) % NIC_RING;
  fence();
}

static bool has_room(void *context) {
  struct nic *nic = context;
  clean(nic);
  // A frame takes up to two descriptors.
  return (nic->tx_clean - nic->tx_next - 1 + NIC_RING) % NIC_RING >= 2 || nic->tx_clean == nic->tx_next;
}

static bool is_idle(void *context) {
  struct nic *nic = context;
  clean(nic);
  return nic->tx_next == nic->tx_clean;
}

static void queue(struct nic *nic, u64 address, u32 bytes, bool last) {
  volatile u64 *d = tx_descriptor(nic, nic->tx_next);
  d[0] = address;
  d[1] = bytes | (u64)((last ? TX_END : 0) | TX_FCS | TX_REPORT) << 24;
  nic->tx_next = (nic->tx_next + 1) % NIC_RING;
}

void nic_send_raw(struct nic *nic, const u64 (*descriptors)[2], u32 count) {
  REQUIRE(count <= 8 && nic_drain(nic, 1000), "%s: the transmit ring does not empty", nic->name);
  for (u32 i = 0; i < count; i++) {
    volatile u64 *d = tx_descriptor(nic, nic->tx_next);
    d[0] = descriptors[i][0];
    d[1] = descriptors[i][1];
    nic->tx_next = (nic->tx_next + 1) % NIC_RING;
  }
  reg_write(nic, TDT, nic->tx_next);
  REQUIRE(nic_drain(nic, 1000), "%s: descriptors are not reported as done", nic->name);
}

void nic_send_from(struct nic *nic, u64 address, u32 bytes) {
  REQUIRE(wait_until(has_room, nic, 1000), "%s: the transmit ring stays full", nic->name);
  queue(nic, address, bytes, true);
  reg_write(nic, TDT, nic->tx_next);
}

void nic_send(struct nic *nic, const u8 *frame, u32 bytes) {
  REQUIRE(wait_until(has_room, nic, 1000), "%s: the transmit ring stays full", nic->name);
  u64 offset = frame_offset(nic->tx_next);
  u32 first = (u32)(PAGE_BYTES - offset % PAGE_BYTES);
  dma_copy_in(&nic->tx_frames, offset, frame, bytes);
  // A descriptor a page: QEMU's model drops a frame whose descriptor runs over two pages that are apart in memory.
  if (bytes > first) queue(nic, dma_address(&nic->tx_frames, offset), first, false), offset += first, bytes -= first;
  queue(nic, dma_address(&nic->tx_frames, offset), bytes, true);
  reg_write(nic, TDT, nic->tx_next);
}

static bool has_frame(void *context) {
  struct nic *nic = context;
  return rx_descriptor(nic, nic->rx_next)[1] & DONE;
}

u32 nic_receive(struct nic *nic, u8 *frame, u64 milliseconds) {
  if (!wait_until(has_frame, nic, milliseconds)) return 0;
  fence();
  // Write-back format: status and error in the low word, the length in bits 47:32.
  u64 status = rx_descriptor(nic, nic->rx_next)[1];
  u32 bytes = (u32)(status >> 32 & 0xffff);
  nic->received[0] = rx_descriptor(nic, nic->rx_next)[0];
  nic->received[1] = status;
  REQUIRE(status & RX_END, "%s: a frame is cut over two descriptors", nic->name);
  REQUIRE(bytes <= NIC_FRAME_MAX, "%s: a frame of %u bytes was received", nic->name, bytes);
  dma_copy_out(&nic->rx_frames, frame_offset(nic->rx_next), frame, bytes);
  refill(nic, nic->rx_next);
  // The tail stays one behind, on the descriptor that was just given back.
  reg_write(nic, RDT, nic->rx_next);
  nic->rx_next = (nic->rx_next + 1) % NIC_RING;
  return bytes;
}

bool nic_drain(struct nic *nic, u64 milliseconds) { return wait_until(is_idle, nic, milliseconds); }

void nic_receive_into(struct nic *nic, u64 address) { rx_descriptor(nic, nic->rx_next)[0] = address; }
