//! USB core: descriptors, enumeration, hubs, transfers as futures, hot-plug
