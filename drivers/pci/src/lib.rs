//! PCI enumeration, BARs, capabilities, MSI, MSI-X and INTx
