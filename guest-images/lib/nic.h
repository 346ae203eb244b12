// An Intel 82574L (e1000e): extended receive descriptors, legacy transmit descriptors, MSI-X.
#pragma once
#include "base.h"
#include "dma.h"

#define NIC_VENDOR 0x8086
#define NIC_DEVICE 0x10d3
#define NIC_RING 64u
#define NIC_FRAME_MAX 1514u

struct nic {
  const char *name;
  struct pci_function *function;
  struct dma_space *space;
  u64 registers;
  u8 mac[6];
  struct dma_buffer rx_ring, tx_ring, rx_frames, tx_frames;
  u32 rx_next, tx_next, tx_clean;
  u64 received[2];  // the descriptor of the frame received last, as the NIC wrote it
  volatile u64 rx_interrupts, tx_interrupts;
};

/// Resets the NIC, brings the link up and gives it rings. Returns NULL, or what went wrong.
const char *nic_open(struct nic *nic, const char *name, struct pci_function *function, struct dma_space *space);
/// Stops receiving and transmitting.
void nic_close(struct nic *nic);

/// Queues a frame of `bytes` (60 … 1514, no FCS) for sending; waits for a free descriptor.
void nic_send(struct nic *nic, const u8 *frame, u32 bytes);
/// Queues `bytes` at any device address for sending.
void nic_send_from(struct nic *nic, u64 address, u32 bytes);
/// Queues up to 8 descriptors as they stand, and waits until they are done.
void nic_send_raw(struct nic *nic, const u64 (*descriptors)[2], u32 count);
/// Takes the next frame received; returns its length, or 0 when none comes in time.
u32 nic_receive(struct nic *nic, u8 *frame, u64 milliseconds);
/// Waits until everything queued has been sent.
bool nic_drain(struct nic *nic, u64 milliseconds);
/// Lets the next free receive descriptor point at `address` (before anything is received into it).
void nic_receive_into(struct nic *nic, u64 address);
