// Root ports with a hot-plug slot (PCI Express Base 6.0 §6.7): cards that come and go while the program runs.
#pragma once
#include "base.h"
#include "dma.h"
#include "pci.h"

#define SLOTS_MAX 8u

// Bits of Slot Status (7.5.3.11).
#define SLOT_BUTTON (1u << 0)
#define SLOT_PRESENCE_CHANGED (1u << 3)
#define SLOT_COMPLETED (1u << 4)
#define SLOT_PRESENT (1u << 6)
#define SLOT_LINK_CHANGED (1u << 8)

struct slot {
  struct pci_function port;  // configuration space and requester id of the root port
  u32 number, bus;           // physical slot number; the bus behind the port
  u32 express;               // offset of the PCI Express capability
  u64 window, window_bytes;  // what the port forwards, as the hart sees it
  volatile u32 events;       // of Slot Status, collected by the interrupt handler
  volatile u32 interrupts;
  struct pci_function card;  // after slot_bring_up
  struct dma_space space;    // the port's own, for its interrupt message
};

/// Finds the slots that pci_open numbered a bus for, gives them a window and switches their interrupts on; how many.
u32 slots_open(void);
struct slot *slot_at(u32 index);
/// Sleeps until a slot has told something, or the time is over; returns whether one has.
bool slots_wait(u64 milliseconds);
/// What the slot told since the last call; forgotten by it.
u32 slot_take(struct slot *s);
bool slot_is_occupied(const struct slot *s);
/// Gives the card power, waits for its link and places its BARs. NULL, or what went wrong.
const char *slot_bring_up(struct slot *s);
/// Takes the power from the slot and switches its indicator off: the card may be taken out.
void slot_let_go(struct slot *s);
