// What the program does with each kind of card.
#pragma once
#include "hot-plug.h"

struct card {
  const char *name;
  /// Takes the card of a slot into use and shows that its DMA works.
  void (*open)(struct slot *s);
  /// Some DMA, without waiting for all of it; false when nothing comes of it. NULL: the card does nothing by itself.
  bool (*work)(struct slot *s);
  /// Stops it.
  void (*close)(struct slot *s);
};

/// The kind of this function, or NULL.
const struct card *card_of(const struct pci_function *f);
/// The card is gone, or stopped: its device context ends.
void card_forget(struct slot *s);
